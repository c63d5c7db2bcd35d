"""A drawn detection set: scenes of people and garments, with boxes and masks in COCO's format.

Each picture has its own random stream, derived from (seed, split, number).
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from dcsnas.config.files import write_json, write_text
from dcsnas.data.drawn.crowd import CATEGORIES, Thing, draw_scene
from dcsnas.data.drawn.render import (
    STATED,
    Progress,
    check_ranges,
    found_drawn,
    jpeg,
    new_folder,
    stream,
    within,
)
from dcsnas.data.drawn.scene import draw_camera

_SCENE, _PLACE = 100, 101  # random streams, beside those of the other sets
SPLITS = ("train", "val")


@dataclass(frozen=True)
class SceneSettings:
    """Size and seed of a drawn detection set; raises UserError where a number is out of range."""

    train_images: int = within(1, 200_000, default=1500)
    val_images: int = within(1, 200_000, default=200)
    height: int = within(64, 2048, default=160)
    width: int = within(64, 2048, default=160)
    cameras: int = within(1, 9, default=6)
    seed: int = within(0, 2**63 - 1, default=0)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_images(self) -> int:
        """Number of pictures in both splits."""
        return self.train_images + self.val_images


def render_scenes(
    root: Path, settings: SceneSettings, *, progress: Progress | None = None
) -> Counter[str]:
    """Draw ``root/train`` and ``root/val`` with ``root/annotations/instances_*.json``.

    ``root`` must be absent or empty, or hold this very set. Returns the number of annotations by
    category. Raises UserError where ``root`` holds anything else.
    """
    kind = {"kind": "detection", "settings": asdict(settings)}
    stated = {"generator": "dcsnas data scenes", **kind}
    if found := found_drawn(root, stated, settings.num_images):
        return Counter(found["annotations"])
    counts: Counter[str] = Counter()
    done = 0
    with new_folder(root) as folder:
        (folder / "annotations").mkdir()
        for part, split in enumerate(SPLITS):
            images, annotations = [], []
            (folder / split).mkdir()
            for number, (content, things) in enumerate(_scenes(settings, part), 1):
                name = f"{number:06d}.jpg"
                (folder / split / name).write_bytes(content)
                size = {"height": settings.height, "width": settings.width}
                images.append({"id": number, "file_name": name, **size})
                for thing in things:
                    annotations.append(_annotation(len(annotations) + 1, number, thing))
                    counts[thing.category] += 1
                done += 1
                if progress is not None:
                    progress(done, settings.num_images)
            content = _coco(settings, images, annotations)
            write_text(folder / "annotations" / f"instances_{split}.json", json.dumps(content))
        write_json(folder / STATED, {**stated, "annotations": counts})
    return counts


def _scenes(settings: SceneSettings, part: int) -> Iterator[tuple[bytes, list[Thing]]]:
    """Yield the bytes of each JPEG file of a split, and what is seen on it."""
    streams = [stream(settings.seed, _PLACE, index) for index in range(settings.cameras)]
    cameras = [draw_camera(rng, index) for index, rng in enumerate(streams)]
    for number in range((settings.train_images, settings.val_images)[part]):
        rng = stream(settings.seed, _SCENE, part, number)
        camera = cameras[number % len(cameras)]
        picture, things = draw_scene(camera, rng, height=settings.height, width=settings.width)
        yield jpeg(picture, int(rng.integers(80, 96))), things


def _coco(settings: SceneSettings, images: list[Any], annotations: list[Any]) -> dict[str, Any]:
    categories = [{"id": index, "name": name} for index, name in enumerate(CATEGORIES, 1)]
    info = {"description": f"drawn by dcsnas data scenes, seed {settings.seed}"}
    content = {"images": images, "annotations": annotations, "categories": categories}
    return {"info": info, **content}


def _annotation(number: int, image: int, thing: Thing) -> dict[str, Any]:
    rows, columns = np.nonzero(thing.mask.any(1))[0], np.nonzero(thing.mask.any(0))[0]
    left, top = int(columns[0]), int(rows[0])
    height, width = thing.mask.shape
    return {
        "id": number,
        "image_id": image,
        "category_id": CATEGORIES.index(thing.category) + 1,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(thing.mask.sum()),
        "segmentation": {"size": [height, width], "counts": run_lengths(thing.mask)},
        "iscrowd": 0,
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the lengths of runs of equal pixels of ``mask`` [H, W], column by column.

    The first is of pixels outside of the mask, and may be 0: COCO's uncompressed run lengths.
    """
    pixels = mask.T.ravel().tolist()
    lengths = [len(list(run)) for _, run in groupby(pixels)]
    return [0, *lengths] if pixels[0] else lengths
