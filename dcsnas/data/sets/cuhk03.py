"""CUHK03, with detected or labelled boxes, in the two forms in which users have it.

Folders: ``detected`` and ``labeled``, each in the layout of Market-1501, as the authors of the new
protocol (767 training and 700 test identities) distribute it. Splits: ``images_detected`` and
``images_labeled`` with ``splits_new_*.json`` and ``splits_classic_*.json``, as torchreid and
fastreid write them; an image ``1_002_1_05.png`` is of camera pair 1, identity 2, view 1. There the
20 classic splits (1,367 and 100) are read too; query and gallery are then the same images.

Sources: Li et al., "DeepReID", CVPR 2014; Zhong et al., "Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017 (the new protocol).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import parse_json, read_text
from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets import market
from dcsnas.data.sets.faults import Fault, Finding
from dcsnas.data.sets.folders import listing, look, subfolders
from dcsnas.data.sets.scan import Entry, Sample, Scan, listed

_NAME = re.compile(r"([1-5])_(\d{3})_([12])_\d+\.")
_PARTS = ("train", "query", "gallery")


def title(variant: VariantConfig) -> str:
    """Return which CUHK03 it is, without the number of a classic split."""
    protocol = "new protocol" if variant.cuhk03_classic is None else "classic"
    return f"CUHK03 {protocol}, {variant.cuhk03}"


def scan_folders(root: Path, variant: VariantConfig) -> Scan:
    """Return the new protocol's set in ``root/detected`` or ``root/labeled``."""
    if variant.cuhk03_classic is not None:
        raise UserError(
            f"{root}: the classic split {variant.cuhk03_classic} was asked for, but this copy of"
            " CUHK03 holds the new protocol only; leave cuhk03_classic out, or give a folder with"
            " splits_classic_*.json"
        )
    folder = _boxes(root, variant, variant.cuhk03)
    found = subfolders(folder)
    missing = [name for name in market.FOLDERS if name not in found]
    if missing:
        raise UserError(
            f"{folder}: expected the folders {', '.join(market.FOLDERS)} (CUHK03, new protocol),"
            f" found {listing(found)}; missing {', '.join(missing)}; copy them there"
        )
    return replace(market.scan(folder, variant), title=title(variant))


def scan_splits(root: Path, variant: VariantConfig) -> Scan:
    """Return the set of one split file; identities are 1000 x camera pair + number."""
    images = _boxes(root, variant, f"images_{variant.cuhk03}")
    classic = variant.cuhk03_classic is not None
    source = root / f"splits_{'classic' if classic else 'new'}_{variant.cuhk03}.json"
    split = _load(source, variant.cuhk03_classic or 0)
    # the classic splits name each test image in query and in gallery
    shared = "gallery" if classic else ""
    items = _read_split(split, source, images)
    samples, findings = listed(items, _PARTS, found=look(images), shared=shared)
    train, query, gallery = samples.values()
    return Scan(title(variant), train, query, gallery, (source, source, source), tuple(findings))


def _boxes(root: Path, variant: VariantConfig, name: str) -> Path:
    found = subfolders(root)
    if name not in found:
        raise UserError(
            f"{root}: expected the folder {name} (CUHK03 with {variant.cuhk03} boxes), found"
            f" {listing(found)}; copy it there, or choose the other boxes (cuhk03: detected or"
            " labeled)"
        )
    return root / name


def _load(source: Path, index: int) -> dict[str, list[Any]]:
    if not source.exists():
        found = sorted(path.name for path in source.parent.glob("*.json"))
        raise UserError(
            f"{source}: expected this file, found {listing(found)}; torchreid and fastreid write"
            " it when they first read CUHK03"
        )
    text = read_text(source)
    try:
        splits = parse_json(text)
    except ValueError as error:
        raise UserError(f"{source}: not valid JSON (truncated or edited?): {error}") from None
    if not isinstance(splits, list) or index >= len(splits):
        count = f"{len(splits)} splits" if isinstance(splits, list) else type(splits).__name__
        raise UserError(f"{source}: split {index} was asked for, found {count}; give 0 to 19")
    split = splits[index]
    if not isinstance(split, dict) or not all(isinstance(split.get(p), list) for p in _PARTS):
        raise UserError(f"{source}: split {index} needs the lists {', '.join(_PARTS)}")
    return split


def _read_split(
    split: dict[str, list[Any]], source: Path, images: Path
) -> Iterator[Entry | Finding]:
    rows = ((part, number, row) for part in _PARTS for number, row in enumerate(split[part], 1))
    for part, number, row in rows:
        position = f"{part} entry {number}"
        # the folders are those of the machine that wrote the file
        named = isinstance(row, list) and row and isinstance(row[0], str)
        name = re.split(r"[/\\]", row[0])[-1] if named else ""
        match = _NAME.match(name)
        if match:
            sample = Sample(images / name, 1000 * int(match[1]) + int(match[2]), int(match[3]))
            yield Entry(part, sample, source, position)
        else:
            expected = "expected [PATH, ...] with a name such as 1_002_1_05.png"
            yield Finding(Fault.BAD_LINE, source, f"{position}: {row!r:.80}; {expected}")
