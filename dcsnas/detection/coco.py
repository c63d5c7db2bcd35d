"""Detection sets in COCO's layout: read, and checked before anything is trained on them.

``ROOT/annotations/instances_SPLIT.json`` beside the images in ``ROOT/SPLIT/``.
Source: the format of cocodataset.org; boxes there are (x, y, width, height) in pixels.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.bounds import MOST_COCO
from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, read_json
from dcsnas.config.runs import Input

Box = tuple[float, float, float, float]

MARGIN = 1.0
"""Pixels that a box may lie outside of its image: COCO's own boxes are rounded."""
LEAST_SIDE = 1e-2
MOST = 10**9
"""Pixels of a side, which no image has; a float holds it."""
SHOWN = 5
"""Faults in a message."""
KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Thing:
    """An annotation: a box (x1, y1, x2, y2) within its image, and its mask in COCO's form."""

    label: int
    """From 1, the place of the category in the set."""
    box: Box
    segmentation: Any
    crowd: bool
    """Whether it is a group, which is neither trained on nor counted as missed."""


@dataclass(frozen=True)
class Picture:
    """An image of a set, and what is annotated on it."""

    number: int
    """Its id in the file."""
    path: Path
    size: tuple[int, int]
    """(height, width)."""
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class CocoSet:
    """A split of a detection set."""

    root: Path
    split: str
    pictures: tuple[Picture, ...]
    categories: tuple[tuple[int, str], ...]
    """Ids and names, in the order of the ids; a label is a place in it, from 1."""
    faults: tuple[str, ...]
    """What is wrong with it, one line each; what has a fault is left out."""
    digest: str

    @property
    def annotations(self) -> Path:
        """Return the file of the annotations."""
        return annotation_file(self.root, self.split)

    @property
    def num_things(self) -> int:
        """Return how many annotations there are."""
        return sum(len(picture.things) for picture in self.pictures)

    def input(self) -> Input:
        """Return what a run is told of the set that it reads."""
        facts = {"images": len(self.pictures), "annotations": self.num_things}
        return Input(self.digest, str(self.annotations), facts, "data.root")

    def counts(self) -> dict[str, int]:
        """Return the number of annotations by category, crowds left out."""
        labels = Counter(t.label for p in self.pictures for t in p.things if not t.crowd)
        return {name: labels[place] for place, (_, name) in enumerate(self.categories, 1)}

    def accepted(self, *, skip: bool) -> "CocoSet":
        """Return the set; raises UserError where it has faults that are not to be skipped."""
        if not self.pictures:
            raise UserError(f"{self.annotations}: no image can be used; give another set")
        if self.faults and not skip:
            more = len(self.faults) - SHOWN
            shown = [*self.faults[:SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
            raise UserError(
                "\n  ".join([f"{self.annotations}: {len(self.faults):,} faults:", *shown])
                + "\ncorrect the file, or set data.skip_faulty=true to leave these out"
            )
        return self


def annotation_file(root: Path, split: str) -> Path:
    """Return where the annotations of a split lie."""
    return root / "annotations" / f"instances_{split}.json"


def read_coco(root: Path, split: str) -> CocoSet:
    """Return a split of a detection set with its faults; opens no image.

    Raises UserError where the file of annotations is missing, cut off, or none of COCO's.
    """
    path = annotation_file(root, split)
    if not path.is_file():
        there = sorted(p.stem.removeprefix("instances_") for p in path.parent.glob("instances_*"))
        known = f"; there are {', '.join(there)}" if there else ""
        raise UserError(
            f"{path}: no such file{known}; give a folder with annotations/instances_SPLIT.json and "
            f"the images in SPLIT/, and the names of its splits as data.train and data.val"
        )
    content = read_json(path, MOST_COCO)
    _require_lists(content, path)
    faults: list[str] = []
    categories = tuple(sorted((id_, name) for id_, name in _categories(content, path)))
    if len(dict(categories)) < len(categories):
        raise UserError(f"{path}: categories: an id is there twice; give each its own")
    labels = {number: place for place, (number, _) in enumerate(categories, 1)}
    images = dict(_images(content, root / split, path, faults))
    things = _things(content, images, labels, faults)
    pictures = tuple(
        Picture(number, place, size, tuple(things[number]))
        for number, (place, size) in images.items()
        if place is not None
    )
    return CocoSet(root, split, pictures, categories, tuple(faults), file_digest(path))


def _require_lists(content: Mapping[str, Any], path: Path) -> None:
    for key in KEYS:
        found = content.get(key)
        if not (isinstance(found, list) and all(isinstance(one, dict) for one in found)):
            raise UserError(
                f"{path}: {key}: expected a list of objects, as COCO's instances files have; give "
                "such a file"
            )


def _categories(content: Mapping[str, Any], path: Path) -> Iterator[tuple[int, str]]:
    if not content["categories"]:
        raise UserError(f"{path}: categories: none; give at least one with an id and a name")
    for index, one in enumerate(content["categories"]):
        number, name = one.get("id"), one.get("name")
        if not (_is_int(number) and isinstance(name, str)):
            raise UserError(
                f"{path}: categories.{index}: expected id, a whole number, and name, found {one}"
            )
        yield number, name


Known = tuple[Path | None, tuple[int, int]]
"""An image's file, None where it cannot be used, and its (height, width)."""


def _images(
    content: Mapping[str, Any], folder: Path, path: Path, faults: list[str]
) -> Iterator[tuple[int, Known]]:
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else None
    if there is None:
        raise UserError(f"{folder}: no such folder; {path.name} is of images in it")
    seen: set[int] = set()
    for index, one in enumerate(content["images"]):
        number, name = one.get("id"), one.get("file_name")
        size = one.get("height"), one.get("width")
        sound = _is_int(number) and isinstance(name, str) and all(map(_is_positive, size))
        if not sound or number in seen:
            what = "its id is there twice" if sound else "no id, file_name, height or width"
            faults.append(f"images.{index}: {what}")
            continue
        seen.add(number)
        file = folder / name
        within = ".." not in Path(name).parts and not Path(name).is_absolute()
        usable = within and (name in there or ("/" in name and file.is_file()))
        if not usable:
            what = "no such file" if within else "leads out of the folder"
            faults.append(f"images.{index}: {file}: {what}")
        yield number, (file if usable else None, size)


def _things(
    content: Mapping[str, Any],
    images: Mapping[int, Known],
    labels: Mapping[int, int],
    faults: list[str],
) -> dict[int, list[Thing]]:
    """Return the sound annotations by image."""
    found: dict[int, list[Thing]] = defaultdict(list)
    seen: set[int] = set()
    for index, one in enumerate(content["annotations"]):
        number = one.get("image_id")
        problem = _problem(one, images, labels, seen)
        if problem:
            faults.append(f"annotations.{index}: {problem}")
            continue
        seen.add(one["id"])
        height, width = images[number][1]
        x, y, w, h = map(float, one["bbox"])
        box = max(0.0, x), max(0.0, y), min(width, x + w), min(height, y + h)
        label, crowd = labels[one["category_id"]], bool(one.get("iscrowd", 0))
        found[number].append(Thing(label, box, one["segmentation"], crowd))
    return found


def _problem(
    one: Mapping[str, Any],
    images: Mapping[int, Known],
    labels: Mapping[int, int],
    seen: set[int],
) -> str:
    """Say what is wrong with an annotation; empty where it is sound."""
    if not _is_int(one.get("id")) or one["id"] in seen:
        return f"its id is {one.get('id')!r}: not a whole number, or there twice"
    for key, known, what in (("image_id", images, "image"), ("category_id", labels, "category")):
        if not _is_int(one.get(key)) or one[key] not in known:
            return f"{key} is {one.get(key)!r}, which is no {what} of the file"
    box, (height, width) = one.get("bbox"), images[one["image_id"]][1]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        return f"bbox is {box!r}; expected [x, y, width, height]"
    x, y, w, h = box
    right, bottom = min(width, x + w), min(height, y + h)
    if right - max(0, x) < LEAST_SIDE or bottom - max(0, y) < LEAST_SIDE:
        return f"bbox is {box}, which has no area within the image of {width}x{height}"
    if min(x, y) < -MARGIN or x + w > width + MARGIN or y + h > height + MARGIN:
        return f"bbox is {box}, which leaves the image of {width}x{height}"
    return _problem_of_mask(one.get("segmentation"), (height, width))


def _problem_of_mask(mask: Any, size: tuple[int, int]) -> str:
    if isinstance(mask, list):
        points = bool(mask) and all(isinstance(part, list) and len(part) >= 6 for part in mask)
        if not (points and all(_is_number(n) for part in mask for n in part)):
            return "segmentation: expected polygons of three points or more"
        if any(len(part) % 2 for part in mask):
            return "a polygon of half a point"
        # drawing takes time and memory by the length of an edge
        height, width = size
        near = all(
            -width <= x <= 2 * width and -height <= y <= 2 * height
            for part in mask
            for x, y in zip(part[::2], part[1::2], strict=True)
        )
        return "" if near else "segmentation: a point lies further out than the image is large"
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        return "segmentation: expected polygons, or run lengths with size and counts"
    if mask["size"] != list(size):
        return f"segmentation.size is {mask['size']}, the image's is {list(size)}"
    counts = mask["counts"]
    if isinstance(counts, str):
        counts = run_lengths(counts)
    if not isinstance(counts, list):
        return "segmentation.counts: expected numbers, or text as pycocotools writes it"
    sound = all(_is_int(n) and n >= 0 for n in counts) and sum(counts) == size[0] * size[1]
    return "" if sound else "segmentation.counts do not sum up to the image's pixels"


def run_lengths(text: str) -> list[int] | None:
    """Return the run lengths that COCO's compressed text stands for; None where it is none.

    Six bits a character from "0" on: five of a number, and whether it goes on. From the fourth
    number on it is the difference to the one before the last. pycocotools reads beyond a text
    that breaks off within a number. Source: ``rleFrString`` of cocoapi's maskApi.c.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths if not shift else None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_int(value) and 0 < value < MOST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
