"""What is drawn for an image follows (seed, epoch, image) alone; decoded images held in memory."""

import gc
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.config.images import (
    AugmentConfig,
    DataConfig,
    RandAugmentConfig,
    RandomCropConfig,
)
from dcsnas.data.images import ImageSet, training_images
from dcsnas.data.loading import Batch, Loader, make_loader
from dcsnas.data.samplers import EpochShuffle, PKSampler
from dcsnas.data.sets.scan import Sample

SIZE = (20, 12)
DRAWN = AugmentConfig(crop=RandomCropConfig(), randaugment=RandAugmentConfig(), pad=0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Return twelve pictures of various sizes, JPEG and PNG, four of each class."""
    root = tmp_path_factory.mktemp("pictures") / "train"
    found = []
    for i in range(12):
        values = np.random.default_rng(i).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        path = root / f"class{i // 4}" / f"{i:02}.{'jpg' if i % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).resize((31 + 9 * i, 50 + 5 * i)).save(path)
        found.append(Sample(path, identity=i // 4, camera=0))
    return found


def images_of(samples: list[Sample], *, augment: AugmentConfig = DRAWN, **data) -> ImageSet:
    config = DataConfig(root=samples[0].path.parent.parent, crop=0.875, **data)
    return training_images(samples, SIZE, config, augment, seed=3)


def epoch_of(loader: Loader, epoch: int) -> list[Batch]:
    order = loader.batch_sampler.sampler  # type: ignore[union-attr]
    order.set_epoch(epoch)  # type: ignore[union-attr]
    return list(loader)


def shuffled(samples: list[Sample], workers: int = 0, **data) -> Loader:
    return make_loader(
        images_of(samples, **data), workers=workers, seed=1, batch_size=4, shuffle=True
    )


def by_index(batches: list[Batch]) -> dict[int, torch.Tensor]:
    return {
        int(i): x for b in batches for i, x in zip(b.indices, b.images, strict=True)
    }  # fmt: skip


def test_draws_follow_epoch_and_image_whatever_loads_them(samples):
    first, second = (by_index(epoch_of(shuffled(samples), epoch)) for epoch in (0, 5))
    again = by_index(epoch_of(shuffled(samples, workers=2), 5))
    assert sorted(first) == list(range(12))
    assert all(torch.equal(second[i], again[i]) for i in range(12))
    assert sum(torch.equal(first[i], second[i]) for i in range(12)) <= 1
    batches = epoch_of(shuffled(samples), 2)
    labels = {
        int(i): int(y) for b in batches for i, y in zip(b.indices, b.labels, strict=True)
    }  # fmt: skip
    assert labels == {i: i // 4 for i in range(12)}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_bit_equal(samples, workers):
    whole = epoch_of(shuffled(samples), 4)
    loader = shuffled(samples, workers)
    loader.batch_sampler.sampler.set_epoch(4)  # type: ignore[union-attr]
    list(islice(loader, 1))
    resumed = shuffled(samples, workers)
    resumed.load_state_dict(loader.state_dict())
    left = epoch_of(resumed, 4)
    assert len(left) == 2
    for found, expected in zip(left, whole[1:], strict=True):
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.indices, expected.indices)


def test_a_random_part_differs_from_what_evaluation_sees(samples):
    drawn, plain = images_of(samples), ImageSet(samples, SIZE, crop=0.875)
    assert not torch.equal(drawn[0][0], plain[0][0])
    assert drawn[0][0].shape == plain[0][0].shape == (3, *SIZE)
    key = 7 * len(drawn) + 3
    assert drawn[key][1:] == plain[3][1:]
    without = images_of(samples, augment=AugmentConfig(pad=0))
    assert torch.equal(without[3][0], plain[3][0])


def test_keyed_orders_hold_the_epoch():
    plain, keyed = (EpochShuffle(10, seed=0, keyed=one) for one in (False, True))
    for order in (plain, keyed):
        order.set_epoch(3)
    assert [key - 30 for key in keyed] == list(plain)
    labels = [0, 0, 1, 1, 2, 2]
    rules: dict[str, Any] = {"identities_per_batch": 2, "images_per_identity": 2, "seed": 0}
    plain, keyed = (PKSampler(labels, keyed=one, **rules) for one in (False, True))
    for order in (plain, keyed):
        order.set_epoch(2)
    pairs = list(zip(plain, keyed, strict=True))
    assert [[key % 6 for key in batch] for _, batch in pairs] == [batch for batch, _ in pairs]
    numbers = [{key // 6 for key in batch} for _, batch in pairs]
    assert numbers == [{2 * len(plain) + n} for n in range(len(plain))]


@pytest.mark.parametrize("augment", [AugmentConfig(pad=0), DRAWN])
def test_held_images_are_those_of_the_files(samples, augment):
    held, read = (images_of(samples, augment=augment, in_memory=one) for one in (True, False))
    for key in range(0, 36, 2):  # of a JPEG, an odd number, parts may be decoded smaller
        assert torch.equal(held[key][0], read[key][0])
    if augment.crop is None:
        assert all(torch.equal(held[key][0], read[key][0]) for key in range(12))


def test_held_images_need_no_files_and_go_along_to_other_processes(samples, tmp_path):
    copies = []
    for sample in samples:
        path = tmp_path / "train" / sample.path.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sample.path.read_bytes())
        copies.append(Sample(path, sample.identity, 0))
    held = images_of(copies, in_memory=True)
    expected = [held[i][0] for i in range(12)]
    for copy in copies:
        copy.path.unlink()
    loader = make_loader(held, workers=1, seed=0, batch_size=12)
    (batch,) = loader
    assert torch.equal(batch.images, torch.stack(expected))
    context = get_context("spawn")
    with context.Pool(1) as pool:
        shape, total = pool.apply(_seen, (held, 5))
    assert (shape, total) == (tuple(expected[5].shape), int(expected[5].sum()))


def test_some_of_held_images_outlive_the_others(samples):
    whole = images_of(samples, augment=AugmentConfig(pad=0), in_memory=True)
    picked = [samples[i] for i in (7, 2, 2)]
    part, expected = whole.of(picked), [whole[i][0] for i in (7, 2, 2)]
    assert part.labels.tolist() == [sample.identity for sample in picked]
    del whole
    gc.collect()
    assert all(torch.equal(part[i][0], expected[i]) for i in range(3))
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(_seen, (part, 0))[1] == int(expected[0].sum())
    with pytest.raises(KeyError):
        part.of([samples[0]])


def _seen(images: ImageSet, index: int) -> tuple[tuple[int, ...], int]:
    pixels = images[index][0]
    return tuple(pixels.shape), int(pixels.sum())


def test_too_many_images_to_hold_are_refused(samples, monkeypatch):
    class Little:
        available = 5000

    monkeypatch.setattr("psutil.virtual_memory", Little)
    with pytest.raises(UserError, match=r"data\.in_memory: the 12 images in .*/train take about"):
        images_of(samples, in_memory=True)


def test_a_damaged_file_is_named_where_images_are_held(samples, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"{path}: cannot be decoded as an image"):
        images_of([*samples, Sample(path, 0, 0)], in_memory=True)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "RGBA", "1", "I;16"])
def test_pictures_of_every_kind_are_cut_as_rgb(tmp_path: Path, mode: str):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    source = Image.new("L", (40, 30), 255)
    picture = Image.new("I;16", (40, 30), 65535) if mode == "I;16" else source.convert(mode)
    picture.save(path)
    item = images_of([Sample(path, 0, 0)], augment=AugmentConfig(crop=RandomCropConfig()))[0]
    assert item[0].shape == (3, *SIZE)
    assert int(item[0].min()) >= 253


def test_of_an_animation_the_first_frame_and_no_orientation(tmp_path: Path):
    frames = [Image.new("RGB", (40, 30), (shade, 0, 0)) for shade in (40, 80)]
    exif = frames[0].getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / "frames.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], exif=exif)
    image = ImageSet([Sample(path, 0, 0)], (30, 40), crop=1.0)[0][0]
    assert image.flatten(1).unique(dim=1).tolist() == [[40], [0], [0]]
    frames[0].putpixel((0, 0), (255, 255, 255))
    frames[0].save(tmp_path / "turned.png", exif=exif)
    image = ImageSet([Sample(tmp_path / "turned.png", 0, 0)], (30, 40), crop=1.0)[0][0]
    assert image[:, 0, 0].tolist() == [255, 255, 255]
