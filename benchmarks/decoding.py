"""Images per second from JPEG files to the input, against plain Pillow in the same run.

Command: .venv/bin/python benchmarks/decoding.py

Pictures are drawn, of the ``--sizes`` (ImageNet's usual 500x375, and one that a camera gives), with
detail and noise so that a file has about as many bytes as a photograph's. Both ways take random
parts (RandomResizedCrop, 8 to 100 % of the area) scaled to ``--input``, the same parts:

- ``pillow``: ``Image.open(path).convert("RGB").crop(box).resize(size, BILINEAR)`` and an array;
- ours: an ``ImageSet``, which has JPEG decoded smaller where the part allows it, cuts, and scales
  by torch's kernel.

Each is the best of ``--rounds`` rounds taken in turns, files in the system's cache, by the time
that a core computes, so that other work beside counts little. ``by_size`` has both for each size;
``images_per_s``, ``pillow_images_per_s`` and ``ratio`` are of the first. ``two_workers_ratio`` is
the loader's images per second with two processes over those with one, by the clock, batches of 64
and all. ``gpu_cores`` says how many such cores feed a GPU that takes 1,000 images a second. The
last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dcsnas.config.images import AugmentConfig, DataConfig, RandomCropConfig
from dcsnas.data.geometry import random_box
from dcsnas.data.images import Draws, ImageSet, training_images
from dcsnas.data.loading import make_loader
from dcsnas.data.sets.scan import Sample
from dcsnas.latency.machine import cpu_name

GPU_IMAGES_PER_S = 1000
CROP = RandomCropConfig()


def draw(folder: Path, width: int, height: int, count: int) -> list[Sample]:
    """Write pictures with the detail of a photograph: coarse shapes, finer ones, a little noise."""
    folder.mkdir()
    samples = []
    for number in range(count):
        rng = np.random.default_rng((width, number))
        pixels = np.zeros((height, width, 3))
        for cells, weight in ((6, 0.6), (40, 0.3), (150, 0.1)):
            few = rng.integers(0, 256, (cells * height // width + 1, cells, 3), dtype=np.uint8)
            pixels += weight * np.asarray(Image.fromarray(few).resize((width, height), 3), float)
        pixels += rng.normal(0, 4, pixels.shape)
        path = folder / f"{number}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)
        samples.append(Sample(path, number % 2, 0))
    return samples


def plain(path: Path, size: int, draws: Draws, index: int) -> torch.Tensor:
    """Return the same part of a picture by Pillow alone."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    rng = draws.generator(0, index)
    left, top, right, bottom = random_box((rgb.height, rgb.width), (size, size), CROP, rng)
    part = rgb.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()


def best_of(
    rounds: int,
    ways: dict[str, Callable[[], None]],
    images: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return images per second by ``clock`` of each way, the best of rounds taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            begun = clock()
            run()
            seconds[name].append(clock() - begun)
    return {name: images / min(times) for name, times in seconds.items()}


def compare(samples: list[Sample], size: int, rounds: int) -> dict[str, float]:
    """Return images per second of both ways on one core."""
    images = training_set(samples, size)
    draws = images.draws
    assert draws is not None

    def by_pillow() -> None:
        for index, sample in enumerate(samples):
            plain(sample.path, size, draws, index)

    def by_us() -> None:
        for index in range(len(images)):
            images[index]

    ways = {"pillow": by_pillow, "ours": by_us}
    found = best_of(rounds, ways, len(samples), clock=time.process_time)
    return {
        "images_per_s": round(found["ours"], 1),
        "pillow_images_per_s": round(found["pillow"], 1),
        "ratio": round(found["ours"] / found["pillow"], 3),
        "file_kb": round(sum(s.path.stat().st_size for s in samples) / len(samples) / 1e3, 1),
    }


def training_set(samples: list[Sample], size: int) -> ImageSet:
    data = DataConfig(root=samples[0].path.parent, crop=0.875)
    augment = AugmentConfig(crop=CROP, pad=0)
    return training_images(samples, (size, size), data, augment, seed=0)


def workers_ratio(samples: list[Sample], size: int, rounds: int) -> dict[str, float]:
    """Return images per second of loaders with one and with two processes that have started."""
    loaders = {
        f"{workers}": make_loader(
            training_set(samples, size), workers=workers, seed=0, batch_size=64, shuffle=True
        )
        for workers in (1, 2)
    }

    def read(loader: Any) -> None:
        for _ in loader:
            pass

    for loader in loaders.values():
        read(loader)
    ways = {name: lambda loader=loader: read(loader) for name, loader in loaders.items()}
    return best_of(rounds, ways, 64 * (len(samples) // 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["500x375", "1600x1200"], metavar="WxH")
    parser.add_argument("--input", type=int, default=224)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    by_size: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sizes:
            width, height = map(int, name.split("x"))
            count = max(8, round(options.images * min(1, 500 * 375 / (width * height))))
            samples = draw(Path(folder) / name, width, height, count)
            by_size[name] = compare(samples, options.input, options.rounds)
            print(name, by_size[name])
        first = options.sizes[0]
        files = sorted((Path(folder) / first).iterdir())
        many = [Sample(path, 0, 0) for path in files * 4]
        workers = workers_ratio(many, options.input, options.rounds)
    result = {
        **by_size[first],
        "two_workers_ratio": round(workers["2"] / workers["1"], 3),
        "one_worker_images_per_s": round(workers["1"], 1),
        "gpu_cores": round(GPU_IMAGES_PER_S / by_size[first]["images_per_s"], 1),
        "by_size": by_size,
        "input": options.input,
        "cpu": cpu_name(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
