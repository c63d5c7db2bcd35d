"""The published counts of the known data sets, each with its source.

Cameras are those in the file names: CUHK03 names the two views of a pair 1 and 2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dcsnas.data.sets import market
from dcsnas.data.sets.scan import JUNK, Sample, Scan

IMAGES = "training images"
WITHDRAWN = (
    "DukeMTMC-reID was withdrawn by its authors in 2019; dcsnas reads the copy that you have and"
    " offers no other"
)


@dataclass(frozen=True)
class Published:
    """What was published of a data set; ``folder`` is how a Market-layout copy is called."""

    name: str
    source: str
    counts: Mapping[str, int]
    folder: str | None = None
    numbered_apart: bool = False
    notice: str = ""


COUNTED = (
    *(IMAGES, "training identities", "queries", "query identities"),
    *("gallery images", "junk images", "cameras"),
)


def _counts(*numbers: int | None) -> dict[str, int]:
    """Return numbers in the order of COUNTED by their names, without those that are None."""
    named = zip(COUNTED, numbers, strict=True)
    return {name: number for name, number in named if number is not None}


def _msmt17(train: str, images: int) -> Published:
    # the paper gives 32,621 training images, the archive's lists 30,248 + 2,373
    return Published(
        f"MSMT17, {train}",
        "Wei et al., CVPR 2018; lists of the archive",
        _counts(images, 1_041, 11_659, 3_060, 82_161, None, 15),
        folder=r"msmt-?_?17",
        numbered_apart=True,
    )


def _cuhk03_new(boxes: str, images: int, gallery: int) -> Published:
    return Published(
        f"CUHK03 new protocol, {boxes}",
        "zhunzhong07/person-re-ranking, CUHK03-NP/README.md",
        _counts(images, 767, 1_400, 700, gallery, None, 2),
        numbered_apart=True,
    )


def _cuhk03_classic(boxes: str, images: int) -> Published:
    # 20 random splits with other image counts each; the sum is the new protocol's
    return Published(
        f"CUHK03 classic, {boxes}",
        "Li et al., CVPR 2014; sum over CUHK03-NP/README.md",
        {"training and query images": images, **_counts(None, 1_367, None, 100, None, None, 2)},
    )


PUBLISHED = (
    Published(
        "Market-1501",
        "Zheng et al., ICCV 2015; files of the archive",
        _counts(12_936, 751, 3_368, 750, 15_913, 3_819, 6),
        folder=r"market-?_?1501",
    ),
    Published(
        "DukeMTMC-reID",
        "Zheng et al., ICCV 2017; layumi/DukeMTMC-reID_evaluation",
        _counts(16_522, 702, 2_228, 702, 17_661, 0, 8),
        folder="duke-?_?mtmc",
        notice=WITHDRAWN,
    ),
    _msmt17("train", 30_248),
    _msmt17("train+val", 32_621),
    _cuhk03_new("detected", 7_365, 5_332),
    _cuhk03_new("labeled", 7_368, 5_328),
    _cuhk03_classic("detected", 14_097),
    _cuhk03_classic("labeled", 14_096),
)


def identify(root: Path, scan: Scan, known: Sequence[Published] = PUBLISHED) -> Published | None:
    """Return which known data set this is; None for any other.

    A set in the layout of Market-1501 is known by the name of its folder or by its number of
    training images, every other by its layout.
    """
    if scan.title != market.TITLE:
        title = re.sub(r" V[12]", "", scan.title)
        return next((one for one in known if one.name == title), None)
    by_count = [one for one in known if one.counts.get(IMAGES) == len(scan.train)]
    name = root.resolve().name.lower()
    by_name = [one for one in known if one.folder and re.search(one.folder, name)]
    return next(iter((*by_count, *by_name)), None)


def counts(scan: Scan) -> dict[str, int]:
    """Return every count that may have been published, as found."""
    gallery = [sample for sample in scan.gallery if sample.identity != JUNK]
    return {
        IMAGES: len(scan.train),
        "training identities": _identities(scan.train),
        "queries": len(scan.query),
        "query identities": _identities(scan.query),
        "training and query images": len(scan.train) + len(scan.query),
        "gallery images": len(gallery),
        "junk images": len(scan.gallery) - len(gallery),
        "cameras": len({s.camera for s in (*scan.train, *scan.query, *scan.gallery)}),
    }


def _identities(samples: Sequence[Sample]) -> int:
    return len({sample.identity for sample in samples} - {JUNK})
