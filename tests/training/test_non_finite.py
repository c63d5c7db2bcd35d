"""A loss that is not finite ends the run with the step and every file of the batch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.loading import ImageSet, make_loader, names_below
from dcsnas.data.reid import Sample
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice
from dcsnas.training.train import train
from dcsnas.training.trainer import require_finite
from latency_fakes import fake_table, micro_space
from reid_data import SIZE, write_class_folder


def message(folder: Path, files: int) -> str:
    trainer: Any = SimpleNamespace(world_size=1, default_root_dir=folder)
    names, indices = [f"{i:03}.jpg" for i in range(200)], torch.arange(files)
    kind = {"names": names, "indices": indices, "shared": True}
    require_finite(torch.tensor(1.5), 3, trainer, **kind)
    with pytest.raises(UserError) as caught:
        require_finite(torch.tensor(float("inf")), 3, trainer, **kind)
    return str(caught.value)


def test_a_batch_of_the_papers_is_in_the_message(tmp_path: Path) -> None:
    files = ", ".join(f"{i:03}.jpg" for i in range(64))
    expected = "the loss is inf at step 3; lower optimizer.lr, or check the batch's images: "
    assert message(tmp_path, 64) == expected + files
    assert not list(tmp_path.iterdir())


def test_a_larger_batch_is_in_a_file(tmp_path: Path) -> None:
    record = tmp_path / "non_finite_batch.txt"
    assert message(tmp_path, 100).endswith(f"062.jpg, 063.jpg and 36 more, all in {record}")
    assert record.read_text().splitlines() == [f"{i:03}.jpg" for i in range(100)]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    paths = [tmp_path / "people" / camera / "0001.jpg" for camera in ("door", "yard")]
    paths.append(Path("/elsewhere/0001.jpg"))
    samples = [Sample(path, identity=0, camera=0) for path in paths]
    for root, above in ((tmp_path / "people", ""), (tmp_path / "people.csv", "people/")):
        names = [f"{above}door/0001.jpg", f"{above}yard/0001.jpg", "/elsewhere/0001.jpg"]
        assert names_below(root, samples) == names


def test_pretraining_names_the_batch_with_its_classes(tmp_path: Path) -> None:
    write_class_folder(tmp_path / "classes")
    space = micro_space()
    file = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    content = {
        "data": {"root": str(tmp_path / "classes"), "workers": 0},
        "epochs": 2,
        "batch_size": 8,
        "augment": {"pad": 0},
        "optimizer": {"lr": 1e30},
    }
    config = validate(PretrainConfig, content, "test")
    with pytest.raises(UserError, match=r"the loss is nan at step (\d+);") as caught:
        train(config, file, RunFolder(tmp_path / "run"), stage="pretrain", progress=False)
    step = int(str(caught.value).partition(" at step ")[2].partition(";")[0])
    data = read_image_folder(tmp_path / "classes")
    loader: Any = make_loader(
        ImageSet(data.train, SIZE), workers=0, seed=0, batch_size=8, shuffle=True
    )
    epoch, index = divmod(step, len(loader))
    loader.sampler.set_epoch(epoch)
    paths = [data.train[i].path for i in list(loader.batch_sampler)[index]]
    files = ", ".join(f"train/{path.parent.name}/{path.name}" for path in paths)
    assert str(caught.value).endswith(f"check the batch's images: {files}")
