"""The folder layout of Market-1501, which DukeMTMC-reID and many converted sets share.

Identity and camera come from the name of a file alone (``0002_c1s1_000451_03.jpg`` is identity 2,
camera 1), so that no folder above it can relabel an image. Identity -1 marks junk, which ranking
leaves out; identity 0 of Market-1501 is a distractor and stays in the gallery.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.
"""

import re
from pathlib import Path

from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import look, unread
from dcsnas.data.sets.scan import MOST_DIGITS, Sample, Scan

TITLE = "Market-1501 layout"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)

_NAME = re.compile(rf"(-1|\d{{1,{MOST_DIGITS}}})_c(\d{{1,{MOST_DIGITS}}})(?!\d)")


def scan(root: Path, variant: VariantConfig) -> Scan:
    """Return the set in the three folders under ``root``; it has no variants."""
    train, query, gallery = (root / folder for folder in FOLDERS)
    samples, findings = {}, []
    for folder in (train, query, gallery):
        samples[folder] = []
        found = look(folder)
        for path in found.images:
            sample = parse(path)
            if sample:
                samples[folder].append(sample)
            else:
                findings.append(Finding(Fault.BAD_NAME, path))
        findings += unread(found)
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
