"""Known data sets are recognised, and their published counts fit together."""

from pathlib import Path

import pytest

from dcsnas.data.sets.published import PUBLISHED, counts, identify
from dcsnas.data.sets.scan import Sample, Scan


def published_scan(name: str, title: str) -> Scan:
    """Make a scan with exactly the published counts of a set."""
    want = next(one for one in PUBLISHED if one.name == name).counts
    queries = want.get("queries", 700)
    images = want.get("training images", want.get("training and query images", 0) - queries)
    cameras = want["cameras"]

    def samples(number: int, identities: int) -> tuple[Sample, ...]:
        return tuple(Sample(Path(), i % identities + 1, i % cameras) for i in range(number))

    junk = tuple(Sample(Path(), -1, 0) for _ in range(want.get("junk images", 0)))
    return Scan(
        title=title,
        train=samples(images, want["training identities"]),
        query=samples(queries, want["query identities"]),
        gallery=(*samples(want.get("gallery images", 9), 5), *junk),
        sources=(Path(), Path(), Path()),
        findings=(),
    )


@pytest.mark.parametrize("known", PUBLISHED, ids=lambda known: known.name)
def test_every_published_set_is_recognised_by_its_counts_or_its_layout(known):
    title = known.name.replace("MSMT17,", "MSMT17 V2,")
    titles = [title] if "classic" in title else [title, "Market-1501 layout"]
    if known.folder and "msmt" not in known.folder:
        titles = ["Market-1501 layout"]
    for title in titles:
        scan = published_scan(known.name, title)
        assert identify(Path("any"), scan) == known
        found = counts(scan)
        assert {what: found[what] for what in known.counts} == known.counts


def test_the_published_counts_add_up():
    by_name = {one.name: one.counts for one in PUBLISHED}
    # 19,732 files in bounding_box_test of Market-1501; 126,441 boxes in MSMT17 (the papers)
    market, msmt17 = by_name["Market-1501"], by_name["MSMT17, train+val"]
    assert market["gallery images"] + market["junk images"] == 19_732
    parts = ("training images", "queries", "gallery images")
    assert sum(msmt17[part] for part in parts) == 126_441
    assert msmt17["training identities"] + msmt17["query identities"] == 4_101
    # the new protocol of CUHK03 shares out the same 1,467 people and images as the classic one
    for boxes in ("detected", "labeled"):
        new, classic = by_name[f"CUHK03 new protocol, {boxes}"], by_name[f"CUHK03 classic, {boxes}"]
        assert sum(new[part] for part in parts) == classic["training and query images"]
        for protocol in (new, classic):
            assert protocol["training identities"] + protocol["query identities"] == 1_467
    duke = by_name["DukeMTMC-reID"]
    assert sum(duke[part] for part in parts) == 36_411
