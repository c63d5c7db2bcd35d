"""Whole data sets of drawn pedestrians: Re-ID in the Market-1501 layout, and an image folder.

Every picture has its own random stream, derived from (seed, what it shows, camera, shot), so the
order of rendering does not matter and the same settings give the same bytes with the same
versions of Pillow and NumPy.
"""

import glob
import io
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json, writing
from dcsnas.config.outputs import ANOTHER, held
from dcsnas.data.drawn.appearance import Appearance, Colours, draw_appearance, draw_colours
from dcsnas.data.drawn.scene import Camera, draw_camera, photograph
from dcsnas.data.sets.market import GALLERY, QUERY, TRAIN

Progress = Callable[[int, int], None]  # pictures done, pictures in all

CLASSES = tuple(  # pattern of the upper garment, lower garment
    itertools.product(
        ("plain", "horizontal", "vertical", "checks", "dots", "diagonal"),
        ("trousers", "shorts", "skirt"),
    )
)

STATED = "dataset.json"
LOOK_ALIKES = 8  # people who share all colours
_CAMERA, _COLOURS, _PERSON, _SHOT, _DISTRACTOR, _JUNK, _CLASS = range(7)  # random streams


def within(low: int, high: int, *, default: int) -> Any:
    """Return a field of settings with the numbers that it allows."""
    return field(default=default, metadata={"range": (low, high)})


def check_ranges(settings: Any) -> None:
    """Raise UserError where a field ``within`` a range is out of it."""
    for one in fields(settings):
        value, low, high = getattr(settings, one.name), *one.metadata["range"]
        if not low <= value <= high:
            raise UserError(f"{one.name}: {value} given; allowed: {low} to {high}")


@dataclass(frozen=True)
class ReidSettings:
    """Size and seed of a rendered Re-ID data set; ``images_per_camera`` counts per identity.

    One of the images of each test identity in each camera is its query, the others are gallery.
    Raises UserError where a number is out of range.
    """

    train_identities: int = within(2, 5000, default=200)
    test_identities: int = within(1, 4999, default=100)
    cameras: int = within(2, 9, default=4)
    images_per_camera: int = within(2, 1000, default=3)
    distractors: int = within(0, 9999, default=240)
    junk: int = within(0, 9999, default=80)
    seed: int = within(0, 2**63 - 1, default=0)
    height: int = within(16, 1024, default=64)
    width: int = within(16, 1024, default=32)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_images(self) -> int:
        """Number of pictures in all folders."""
        people = self.train_identities + self.test_identities
        return people * self.cameras * self.images_per_camera + self.distractors + self.junk


@dataclass(frozen=True)
class ClassSettings:
    """Size and seed of a rendered classification set; raises UserError out of range."""

    train_per_class: int = within(1, 100_000, default=200)
    val_per_class: int = within(1, 100_000, default=30)
    cameras: int = within(1, 9, default=4)
    seed: int = within(0, 2**63 - 1, default=0)
    height: int = within(16, 1024, default=64)
    width: int = within(16, 1024, default=32)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def num_images(self) -> int:
        """Number of pictures in both splits."""
        return (self.train_per_class + self.val_per_class) * len(CLASSES)


@dataclass(frozen=True)
class _Shot:
    """A picture to take: its file below the root, its subject (None: nobody) and its stream."""

    file: str
    look: Appearance | None
    camera: Camera
    rng: np.random.Generator
    cropped: bool = False


def render_reid(root: Path, settings: ReidSettings, *, progress: Progress | None = None) -> bool:
    """Render a Re-ID data set in the Market-1501 layout to ``root``, which must be absent or empty.

    Training identities come first, test identities follow. ``bounding_box_test`` also holds
    distractors (0000: strangers and detections of nobody) and junk (-1: badly cropped people).
    ``dataset.json`` states settings and counts. Returns False where this very set is there already.
    Raises UserError where ``root`` is not empty otherwise.
    """
    first_test = settings.train_identities + 1
    tested = range(first_test, first_test + settings.test_identities)
    shots = itertools.chain(
        _people_shots(settings, range(1, first_test)),
        _people_shots(settings, tested, test=True),
        _distractor_shots(settings, tested),
        _junk_shots(settings, tested),
    )
    return _render(root, shots, settings, {"kind": "reid"}, progress)


def render_classes(
    root: Path, settings: ClassSettings, *, progress: Progress | None = None
) -> bool:
    """Render an image folder ``root/train|val/<class>/*.jpg``; ``root`` must be absent or empty.

    Returns False where this very set is there already.
    A class is the pattern of the upper garment with the kind of the lower one, so that shape and
    texture tell it and colour does not; nobody appears twice. Raises UserError where ``root`` is
    not empty.
    """
    classes = [f"{pattern}-{lower}" for pattern, lower in CLASSES]
    return _render(
        root, _class_shots(settings), settings, {"kind": "classes", "classes": classes}, progress
    )


def person(seed: int, identity: int) -> Appearance:
    """Return the appearance of ``identity`` in the Re-ID data set of ``seed``."""
    return draw_appearance(stream(seed, _PERSON, identity), _colours(seed, identity))


def _people_shots(
    settings: ReidSettings, identities: range, *, test: bool = False
) -> Iterator[_Shot]:
    cameras = _cameras(settings)
    for identity in identities:
        look = person(settings.seed, identity)
        for index, camera in enumerate(cameras):
            for shot in range(settings.images_per_camera):
                folder = (QUERY if shot == 0 else GALLERY) if test else TRAIN
                name = _name(f"{identity:04d}", index, shot, box=0 if folder == QUERY else 1)
                rng = stream(settings.seed, _SHOT, identity, index, shot)
                yield _Shot(f"{folder}/{name}", look, camera, rng)


def _distractor_shots(settings: ReidSettings, identities: range) -> Iterator[_Shot]:
    """Yield strangers dressed like one of ``identities`` and, every other time, nobody."""
    cameras = _cameras(settings)
    for number in range(settings.distractors):
        index = number // 2 % settings.cameras
        rng = stream(settings.seed, _DISTRACTOR, number)
        colours = _colours(settings.seed, _one_of(identities, rng))
        look = draw_appearance(rng, colours) if number % 2 == 0 else None
        file = f"{GALLERY}/{_name('0000', index, number, box=1)}"
        yield _Shot(file, look, cameras[index], rng)


def _junk_shots(settings: ReidSettings, identities: range) -> Iterator[_Shot]:
    cameras = _cameras(settings)
    for number in range(settings.junk):
        index = number % settings.cameras
        rng = stream(settings.seed, _JUNK, number)
        look = person(settings.seed, _one_of(identities, rng))
        file = f"{GALLERY}/{_name('-1', index, number, box=1)}"
        yield _Shot(file, look, cameras[index], rng, cropped=True)


def _class_shots(settings: ClassSettings) -> Iterator[_Shot]:
    seed = settings.seed
    cameras = [replace(camera, occlusion=0.0) for camera in _cameras(settings)]
    splits = {"train": settings.train_per_class, "val": settings.val_per_class}
    for part, (split, count) in enumerate(splits.items()):
        for number, (pattern, lower) in enumerate(CLASSES):
            for index in range(count):
                rng = stream(seed, _CLASS, part, number, index)
                colours = draw_colours(rng)
                look = draw_appearance(rng, colours, upper_pattern=pattern, lower=lower)
                file = f"{split}/{pattern}-{lower}/{index:06d}.jpg"
                yield _Shot(file, look, cameras[index % len(cameras)], rng)


def _one_of(identities: range, rng: np.random.Generator) -> int:
    return int(rng.integers(identities.start, identities.stop))


def _colours(seed: int, identity: int) -> Colours:
    """Return the colours that ``identity`` shares with its look-alikes."""
    return draw_colours(stream(seed, _COLOURS, (identity - 1) // LOOK_ALIKES))


def _name(pid: str, camera: int, number: int, *, box: int) -> str:
    """Return a Market-1501 file name: identity, camera, sequence, frame, box."""
    return f"{pid}_c{camera + 1}s1_{51 + 25 * number:06d}_{box:02d}.jpg"


def _cameras(settings: ReidSettings | ClassSettings) -> list[Camera]:
    streams = (stream(settings.seed, _CAMERA, index) for index in range(settings.cameras))
    return [draw_camera(rng, index) for index, rng in enumerate(streams)]


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of what ``key`` names in the data set of ``seed``."""
    return np.random.default_rng((seed, *key))


def _render(
    root: Path,
    shots: Iterable[_Shot],
    settings: ReidSettings | ClassSettings,
    description: dict[str, object],
    progress: Progress | None,
) -> bool:
    stated = {"generator": "dcsnas data render", "settings": asdict(settings), **description}
    if found_drawn(root, stated, settings.num_images):
        return False
    counts: Counter[str] = Counter()
    size = {"height": settings.height, "width": settings.width}
    with new_folder(root) as folder:
        for done, shot in enumerate(shots, start=1):
            picture = photograph(shot.look, shot.camera, shot.rng, cropped=shot.cropped, **size)
            path = folder / shot.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(picture, int(shot.rng.integers(70, 96))))
            counts[str(Path(shot.file).parent)] += 1
            if progress is not None:
                progress(done, settings.num_images)
        write_json(folder / STATED, {**stated, "images": counts})
    return True


def found_drawn(root: Path, stated: dict[str, object], images: int) -> dict[str, Any] | None:
    """Return what a drawn set says of itself, if it is the one that is ``stated``, and whole."""
    if not (root / STATED).is_file():
        return None
    with suppress(UserError):
        found = read_json(root / STATED)
        same = {key: found.get(key) for key in stated} == stated
        return found if same and sum(1 for _ in root.rglob("*.jpg")) == images else None
    return None


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """Return a picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``root`` that becomes ``root`` only if the block succeeds."""
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(
            f"{root}: exists and is not an empty folder; rendering never overwrites: "
            "give another path, or remove it yourself"
        )
    with held(root.with_name(f".{root.name}.lock"), of=root, otherwise=ANOTHER):
        # processes that were killed have left these, and none of another is at work
        for abandoned in root.parent.glob(f"{glob.escape(root.name)}.*.partial"):
            shutil.rmtree(abandoned, ignore_errors=True)
        partial = root.with_name(f"{root.name}.{os.getpid()}.partial")
        try:
            with writing(root):
                partial.mkdir()
                yield partial
                if root.exists():
                    root.rmdir()
                partial.rename(root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
