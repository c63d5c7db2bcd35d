"""Batches, damaged files through worker processes, and resuming under Lightning."""

import multiprocessing
import warnings
from itertools import islice
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.data.loading import Batch, ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from dcsnas.data.samplers import PKSampler

SIZE = (8, 4)


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    """Twelve images, four of each identity, whose red value is 20 x their index."""
    found = []
    for i in range(12):
        path = tmp_path / f"ü{i:02}.png"
        Image.new("RGB", (SIZE[1], SIZE[0]), (20 * i, 1, 2)).save(path)
        found.append(Sample(path, identity=i // 4, camera=i % 5))
    return found


def test_an_item_is_uint8_chw_with_label_camera_and_index(samples):
    image, label, camera, index = ImageSet(samples, SIZE)[7]
    assert image.dtype == torch.uint8
    assert image.shape == (3, *SIZE)
    assert image.is_contiguous()
    assert image.flatten(1).unique(dim=1).tolist() == [[140], [1], [2]]
    assert (label, camera, index) == (1, 2, 7)


def test_batches_keep_order_types_and_the_last_rest(samples):
    loader = make_loader(ImageSet(samples, SIZE), workers=0, seed=0, batch_size=5)
    batches = list(loader)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [len(batch.images) for batch in batches] == [5, 5, 2]
    assert len(loader) == 3
    first = batches[0]
    assert first.images.shape == (5, 3, *SIZE)
    assert {t.dtype for t in (first.labels, first.cameras, first.indices)} == {torch.int64}
    assert first.images[:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(12))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [i // 4 for i in range(12)]
    assert first.cameras.tolist() == [0, 1, 2, 3, 4]


def order(loader: Loader, epoch: int) -> list[list[int]]:
    sampler = loader.sampler if loader.batch_size else loader.batch_sampler
    sampler.set_epoch(epoch)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    return [batch.indices.tolist() for batch in loader]


def test_shuffling_drops_the_rest_but_never_everything(samples):
    dataset = ImageSet(samples, SIZE)
    many = make_loader(dataset, workers=0, seed=0, batch_size=5, shuffle=True)
    assert [len(batch) for batch in order(many, 0)] == [5, 5]
    assert order(many, 0) == order(many, 0) != order(many, 1)
    one = make_loader(dataset, workers=0, seed=0, batch_size=64, shuffle=True)
    assert [sorted(batch) for batch in order(one, 0)] == [list(range(12))]


def pk_loader(samples, workers: int, seed: int = 1) -> Loader:
    dataset = ImageSet(samples, SIZE)
    sampler = PKSampler(
        dataset.labels.tolist(), identities_per_batch=2, images_per_identity=2, seed=seed
    )
    return make_loader(dataset, workers=workers, seed=seed, batch_sampler=sampler)


def test_workers_change_neither_the_batches_nor_the_global_random_state(samples):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert order(pk_loader(samples, 0), 3) == order(pk_loader(samples, 1), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_of_one_of_several_processes_are_no_forks(samples, tmp_path, monkeypatch):
    # the server outlives this test: it keeps the imports that killed_search asked for
    preloads = []
    monkeypatch.setattr(multiprocessing, "set_forkserver_preload", preloads.append)
    loader = pk_loader(samples, 1)
    meeting = f"file://{tmp_path / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        batches = order(loader, 3)
    finally:
        dist.destroy_process_group()
    assert loader.multiprocessing_context.get_start_method() == "forkserver"  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    assert preloads == [["dcsnas.data.loading"]]
    assert batches == order(pk_loader(samples, 0), 3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("pk", [False, True])
def test_an_epoch_goes_on_without_reading_what_was_taken(samples, pk, workers):
    def loader() -> Loader:
        if pk:
            return pk_loader(samples, workers)
        dataset = ImageSet(samples, SIZE)
        return make_loader(dataset, workers=workers, seed=1, batch_size=4, shuffle=True)

    whole = order(loader(), 2)
    first = loader()
    first.batch_sampler.sampler.set_epoch(2)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    assert len(list(islice(first, 2))) == 2
    assert first.state_dict() == {"batches": 2}
    second = loader()
    second.load_state_dict(first.state_dict())
    left = {index for batch in whole[2:] for index in batch}
    for index in {index for batch in whole[:2] for index in batch} - left:
        samples[index].path.unlink()
    assert order(second, 2) == whole[2:]
    assert second.state_dict() == {"batches": 0}
    assert len(second) == len(whole)


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        Image.effect_noise((64, 64), 50).save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "text":
        path.write_text("not an image")
    else:
        path.unlink()


@pytest.mark.parametrize(  # with workers once: torch takes 5 s to stop one that raised
    ("how", "workers"), [("truncated", 0), ("text", 0), ("gone", 0), ("truncated", 1)]
)
def test_a_damaged_file_is_one_clear_line_from_any_process(samples, how, workers):
    damage(samples[3].path, how)
    loader = make_loader(ImageSet(samples, SIZE), workers=workers, seed=0, batch_size=4)
    with pytest.raises(UserError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith(f"{samples[3].path}: cannot be decoded as an image (")
    assert message.endswith("; replace or remove the file")
    assert "\n" not in message


class Recorder(pl.LightningModule):
    """Keeps the indices of each epoch's batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[int, list[list[int]]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch.indices.tolist())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(loader: Loader, epochs: int, *, save: Path | None = None, resume: Path | None = None):
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings(
            "ignore", category=FutureWarning
        )  # Lightning's use of torch's pytree
        trainer.fit(module, loader, ckpt_path=resume)
    if save:
        trainer.save_checkpoint(save)
    return module.seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("pk", [False, True])
def test_resuming_gives_the_batches_of_an_uninterrupted_run(samples, tmp_path, pk, workers):
    def loader() -> Loader:
        if pk:
            return pk_loader(samples, workers)
        dataset = ImageSet(samples, SIZE)
        return make_loader(dataset, workers=workers, seed=1, batch_size=4, shuffle=True)

    whole = fit(loader(), 4)
    fit(loader(), 2, save=tmp_path / "two.ckpt")
    resumed = fit(loader(), 4, resume=tmp_path / "two.ckpt")
    assert resumed == {2: whole[2], 3: whole[3]}
    assert len({str(batches) for batches in whole.values()}) == 4
    assert order(loader(), 2) == whole[2]
