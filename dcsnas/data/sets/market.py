"""The folder layout of Market-1501, which DukeMTMC-reID and many converted sets share.

Identity and camera come from the name of a file alone (``0002_c1s1_000451_03.jpg`` is identity 2,
camera 1), so that no folder above it can relabel an image. Identity -1 marks junk, which ranking
leaves out; identity 0 of Market-1501 is a distractor and stays in the gallery.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.scan import OTHER_FORMATS, Sample, Scan, image_files, images_below, subfolders

TITLE = "Market-1501 layout"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)

# as many digits as an int64 holds
_NAME = re.compile(r"(-1|\d{1,18})_c(\d{1,18})(?!\d)")


def scan(root: Path, variant: VariantConfig) -> Scan:
    """Return the set in the three folders under ``root``; it has no variants."""
    train, query, gallery = (root / folder for folder in FOLDERS)
    samples, findings = {}, []
    for folder in (train, query, gallery):
        samples[folder] = []
        for path in image_files(folder):
            sample = parse(path)
            if sample:
                samples[folder].append(sample)
            else:
                findings.append(Finding(Fault.BAD_NAME, path))
        findings += _unread(folder)
    return Scan(
        title=TITLE,
        train=tuple(samples[train]),
        query=tuple(samples[query]),
        gallery=tuple(samples[gallery]),
        sources=(train, query, gallery),
        findings=tuple(findings),
    )


def parse(path: Path) -> Sample | None:
    """Return the sample that the name of a file describes; None where it describes none."""
    match = _NAME.match(path.name)
    return Sample(path, identity=int(match[1]), camera=int(match[2])) if match else None


def _unread(folder: Path) -> Iterator[Finding]:
    for name in subfolders(folder):
        count = sum(1 for _ in images_below(folder / name))
        if count:
            yield Finding(Fault.UNREAD_FOLDER, folder / name, f"{count:,} images")
    for path in image_files(folder, OTHER_FORMATS):
        yield Finding(Fault.UNREAD_FORMAT, path)
