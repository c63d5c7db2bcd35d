"""Person Re-ID data sets in the folder layout of Market-1501.

Identity and camera come from the name of a file alone (``0002_c1s1_000451_03.jpg`` is identity 2,
camera 1), so that no folder above it can relabel an image. Identity -1 marks junk, which ranking
leaves out; identity 0 of Market-1501 is a distractor and stays in the gallery.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)
JUNK = -1
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

_NAME = re.compile(r"(-1|\d+)_c(\d+)(?!\d)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file with the identity (or class) it shows and the camera that took it."""

    path: Path
    identity: int
    camera: int


@dataclass(frozen=True)
class ReidData:
    """A Re-ID data set: the training identities are the labels 0..C-1, in the order of their names.

    ``train_identities[label]`` is the identity in the file names; query and gallery keep theirs.
    """

    root: Path
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    train_identities: tuple[int, ...]

    @property
    def num_identities(self) -> int:
        """Number of training identities C."""
        return len(self.train_identities)


def read_reid(root: Path) -> ReidData:
    """Return the data set under ``root``; images are not opened.

    Raises UserError where the folders, a file name or the number of identities is not as needed.
    """
    check_layout(root)
    train, query, gallery = (_read_folder(root / folder) for folder in FOLDERS)
    for sample in (*train, *query):
        if sample.identity == JUNK:
            raise UserError(
                f"{sample.path}: identity -1 marks junk, which is allowed in {GALLERY} only;"
                " remove the file"
            )
    identities = sorted({sample.identity for sample in train})
    if len(identities) < 2:
        raise UserError(
            f"{root / TRAIN}: all {len(train)} images show identity {identities[0]};"
            " at least two identities are needed"
        )
    label = {identity: index for index, identity in enumerate(identities)}
    return ReidData(
        root=root,
        train=tuple(replace(sample, identity=label[sample.identity]) for sample in train),
        query=tuple(query),
        gallery=tuple(gallery),
        train_identities=tuple(identities),
    )


def samples_digest(samples: Sequence[Sample]) -> str:
    """Return 16 hexadecimal digits that identify the files, identities and cameras of a set."""
    return digest([[s.path.name, s.identity, s.camera] for s in samples])


def split_train(
    samples: Sequence[Sample], *, fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split every identity's images into ``fraction`` for weights, the rest for architecture.

    Each identity with two images or more is in both parts, one with a single image in the first;
    the labels and the order of ``samples`` are kept. Raises UserError where no split is possible.
    """
    if not 0 < fraction < 1:
        raise UserError(
            f"the share of images for the weights is {fraction}; give a number in (0, 1)"
        )
    positions: dict[int, list[int]] = {}
    for position, sample in enumerate(samples):
        positions.setdefault(sample.identity, []).append(position)
    rng = np.random.default_rng(seed)
    second: set[int] = set()
    for identity in sorted(positions):
        count = len(positions[identity])
        kept = 1 if count == 1 else min(max(round(count * fraction), 1), count - 1)
        second.update(rng.permutation(positions[identity])[kept:].tolist())
    if not second:
        raise UserError(
            f"the {len(samples)} training images show each identity once, which leaves none for the"
            " architecture's part of the split; at least one identity with two images is needed"
        )
    parts = ([], [])
    for position, sample in enumerate(samples):
        parts[position in second].append(sample)
    return tuple(parts[0]), tuple(parts[1])


def check_layout(root: Path) -> None:
    """Raise UserError unless ``root`` holds the three folders of Market-1501, none empty."""
    found = subfolders(root)
    missing = [folder for folder in FOLDERS if folder not in found]
    if missing:
        nested = [name for name in found if set(FOLDERS) <= set(subfolders(root / name))]
        fix = f"give {root / nested[0]}" if nested else "give the folder that holds all three"
        raise UserError(
            f"{root}: expected the folders {', '.join(FOLDERS)} (layout of Market-1501), found"
            f" {listing(found)}; missing {', '.join(missing)}; {fix}"
        )
    for folder in FOLDERS:
        if not image_files(root / folder):
            raise UserError(
                f"{root / folder}: no images ({', '.join(IMAGE_SUFFIXES)}) directly in this folder;"
                " copy them there"
            )


def scan_folder(folder: Path) -> tuple[list[Sample], list[Path]]:
    """Return the samples of a folder in sorted order, and the images whose names do not parse."""
    samples, unparsed = [], []
    for path in image_files(folder):
        match = _NAME.match(path.name)
        if match:
            samples.append(Sample(path, identity=int(match[1]), camera=int(match[2])))
        else:
            unparsed.append(path)
    return samples, unparsed


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in ``folder``, sorted by name, without hidden files."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(IMAGE_SUFFIXES)
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    return [folder / name for name in sorted(names)]


def subfolders(root: Path) -> list[str]:
    """Return the sorted names of the folders in ``root``; raises UserError where it is none."""
    if not root.is_dir():
        problem = "not a folder" if root.exists() else "no such folder"
        raise UserError(f"{root}: {problem}; check the path of the data set")
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def listing(names: Iterable[str]) -> str:
    """Return names for a message: the first five and how many more, or 'none'."""
    names = list(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"


def _read_folder(folder: Path) -> list[Sample]:
    samples, unparsed = scan_folder(folder)
    if unparsed:
        others = f" ({len(unparsed) - 1:,} more like it)" if len(unparsed) > 1 else ""
        raise UserError(
            f"{unparsed[0]}: the name gives no identity and camera{others}; expected"
            " IDENTITY_cCAMERA..., such as 0002_c1s1_000451_03.jpg (identity -1 for junk);"
            " rename or remove the file"
        )
    return samples
