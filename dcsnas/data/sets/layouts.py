"""Which layout a data set has, recognised from its folders, and what it then holds."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.stages import VariantConfig
from dcsnas.data.sets import cuhk03, market, msmt17, table
from dcsnas.data.sets.folders import listing, subfolders
from dcsnas.data.sets.scan import Scan, common_findings


@dataclass(frozen=True)
class Layout:
    """A layout: the entries of the root that tell it from others, and its reader."""

    name: str
    needs: tuple[str, ...]
    scan: Callable[[Path, VariantConfig], Scan]


LAYOUTS = (
    Layout("Market-1501", market.FOLDERS, market.scan),
    Layout("MSMT17 V1", (*msmt17.FOLDERS["V1"], *msmt17.LISTS), msmt17.scan),
    Layout("MSMT17 V2", (*msmt17.FOLDERS["V2"], *msmt17.LISTS), msmt17.scan),
    Layout("CUHK03, new protocol", ("detected",), cuhk03.scan_folders),
    Layout("CUHK03, new protocol", ("labeled",), cuhk03.scan_folders),
    Layout("CUHK03 with splits", ("images_detected",), cuhk03.scan_splits),
    Layout("CUHK03 with splits", ("images_labeled",), cuhk03.scan_splits),
)


def scan_set(root: Path, variant: VariantConfig) -> Scan:
    """Return what names and lists say of the data set ``root``, a folder or a CSV file.

    Raises UserError where the layout is none of those known, or not the variant asked for.
    """
    if root.suffix.lower() == ".csv" and not os.path.isdir(root):
        scan = table.scan(root, variant)
    else:
        scan = _layout(root).scan(root, variant)
    return replace(scan, findings=(*scan.findings, *common_findings(scan)))


def _layout(root: Path) -> Layout:
    found = _entries(root)
    for layout in LAYOUTS:
        if found.issuperset(layout.needs):
            return layout
    raise UserError(f"{root}: {_difference(root, found)}")


def _entries(root: Path) -> set[str]:
    """Return the names of the folders of ``root`` and of its lists and tables."""
    tables = (path for path in root.glob("*") if path.suffix.lower() in (".txt", ".csv", ".mat"))
    return {*subfolders(root), *(path.name for path in tables)}


def _difference(root: Path, found: set[str]) -> str:
    """Say which layout was expected, what was found instead, and what to do."""
    if found & {"cuhk03_release", "cuhk-03.mat"}:
        return (
            "expected images of CUHK03, found the Matlab file they come in (cuhk-03.mat); give the"
            " new protocol's folders detected and labeled that its authors distribute, or let"
            " torchreid or fastreid write images_detected and splits_new_detected.json"
        )
    nearest = max(LAYOUTS, key=lambda layout: _share(layout, found))
    seen, advice = listing(sorted(found)), _advice(root, found)
    if 3 * _share(nearest, found) >= 1:
        missing = ", ".join(name for name in nearest.needs if name not in found)
        return (
            f"expected {', '.join(nearest.needs)} (layout of {nearest.name}), found {seen};"
            f" missing {missing}; {advice}"
        )
    layouts = (f"\n  {', '.join(layout.needs)} ({layout.name})" for layout in LAYOUTS)
    return f"no known layout; found {seen}; {advice}; the known layouts have{''.join(layouts)}"


def _share(layout: Layout, found: set[str]) -> float:
    return len(found.intersection(layout.needs)) / len(layout.needs)


def _advice(root: Path, found: set[str]) -> str:
    paths = [root / name for name in sorted(found)]
    sets = [path for path in paths if _is_set(path)]
    tables = [path for path in paths if path.suffix.lower() == ".csv" and table.is_table(path)]
    if sets or tables:
        return f"give {' or '.join(map(str, (*sets, *tables)[:3]))}"
    return "give the folder that holds all of one layout, or a .csv file (path,pid,camid,split)"


def _is_set(folder: Path) -> bool:
    try:
        inside = _entries(folder)
    except UserError:  # a file, or a folder that is nobody's to read
        return False
    return any(inside.issuperset(layout.needs) for layout in LAYOUTS)
