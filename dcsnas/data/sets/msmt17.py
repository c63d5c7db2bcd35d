"""MSMT17, V1 (faces visible) and V2 (faces masked): two folders and four lists.

A line of a list is ``0000/0000_000_01_0303morning_0008_0.jpg 0``: a path below the folder, whose
name gives identity, image and camera, and the identity again. Training and test identities are
both numbered from 0. The set has neither junk nor distractors.

Source: Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification",
CVPR 2018.
"""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from dcsnas.config.files import read_text
from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import look_below, subfolders
from dcsnas.data.sets.scan import Entry, Sample, Scan, is_number, listed

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}

_NAME = re.compile(r"(\d+)_\d+_(\d+)_")


def scan(root: Path, variant: VariantConfig) -> Scan:
    """Return the set with the training images that ``variant.msmt17`` asks for."""
    version = "V2" if FOLDERS["V2"][0] in subfolders(root) else "V1"
    train, test = (root / folder for folder in FOLDERS[version])
    items = chain.from_iterable(
        _read_list(root / name, folder)
        for name, folder in zip(LISTS, (train, train, test, test), strict=True)
    )
    samples, findings = listed(items, LISTS, found=look_below(train, test))
    training = LISTS[:2] if variant.msmt17 == "train+val" else LISTS[:1]
    return Scan(
        title=f"MSMT17 {version}, {variant.msmt17}",
        train=tuple(sample for name in training for sample in samples[name]),
        query=samples["list_query.txt"],
        gallery=samples["list_gallery.txt"],
        sources=(root / LISTS[0], root / LISTS[2], root / LISTS[3]),
        findings=tuple(findings),
        numbered_apart=True,
    )


def _read_list(source: Path, folder: Path) -> Iterator[Entry | Finding]:
    for number, line in enumerate(read_text(source).split("\n"), 1):
        path, identity = (*line.strip().rsplit(maxsplit=1), "", "")[:2]
        name = path.rpartition("/")[2]
        match = _NAME.match(name)
        if match and is_number(identity) and is_number(match[2]):
            sample = Sample(folder / path, identity=int(identity), camera=int(match[2]))
            yield Entry(source.name, sample, source, f"line {number}")
            if int(match[1]) != int(identity):
                detail = f"line {number}: identity {identity} for {name}"
                yield Finding(Fault.LABEL_MISMATCH, source, detail)
        elif line.strip():
            expected = "expected PATH IDENTITY, such as 0000/0000_000_01_0303morning_0008_0.jpg 0"
            yield Finding(Fault.BAD_LINE, source, f"line {number}: '{line.strip()}'; {expected}")
