"""Cross-validation over training identities: one part of them is queried, the others train.

Identities and not images are held out, as Re-ID is about people that training has not seen; so the
real query and gallery stay untouched until the end.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.data.reid import ReidData
from dcsnas.data.sets.scan import Sample

_FEWEST = 2
"""Identities of a part: queries of a single one would find nobody else, whatever the network."""


def hold_out(data: ReidData, *, folds: int, fold: int, seed: int, share: float = 1.0) -> ReidData:
    """Return ``data`` with part ``fold``, from 0, of its training identities as query and gallery.

    The identities are shuffled by ``seed``, ``share`` of them is taken and dealt into ``folds``
    parts, of sizes that differ by at most one. The other parts train, relabelled 0..C-1 in the
    order of ``train_identities``.

    A held-out identity gives one query for each of its cameras, drawn at random; the rest is
    gallery. One that a single camera saw gives no query and stays in the gallery as a distractor.
    An identity's only image from a camera is both: the camera filter keeps it from finding itself,
    and the identity's other queries find it. So every query has a match.

    Raises UserError where the numbers do not fit, there are fewer than two identities for each
    part, or none of this part was seen by two cameras.
    """
    parts = deal_identities(data, folds=folds, seed=seed, share=share)
    if not 0 <= fold < folds:
        raise UserError(f"fold {fold} of {folds}: give a number from 0 to {folds - 1}")
    held_out = set(parts[fold])
    kept = sorted({label for part in parts for label in part} - held_out)
    label = {old: new for new, old in enumerate(kept)}
    # named as in the files again, like the query and gallery of every set
    test = [
        replace(sample, identity=data.train_identities[sample.identity])
        for sample in data.train
        if sample.identity in held_out
    ]
    query, gallery = _query_and_gallery(test, np.random.default_rng([seed, fold]))
    taken = "" if share == 1 else f" of {share:g} of the training identities"
    title = f"{data.title}, fold {fold + 1} of {folds}{taken}"
    if not query:
        raise UserError(
            f"{data.root}: {title}: none of its {len(held_out)} identities was seen by two cameras,"
            " so no query would have a match; lower the number of folds, or take another seed"
        )
    return replace(
        data,
        train=tuple(
            replace(s, identity=label[s.identity]) for s in data.train if s.identity in label
        ),
        num_classes=len(kept),
        probes=query,
        references=gallery,
        train_identities=tuple(data.train_identities[old] for old in kept),
        title=title,
    )


def deal_identities(
    data: ReidData, *, folds: int, seed: int, share: float = 1.0
) -> list[tuple[int, ...]]:
    """Return ``folds`` disjoint parts of ``share`` of the training labels, as hold_out deals them.

    Raises UserError where the numbers do not fit or there are too few identities.
    """
    if folds < 2:
        raise UserError(f"folds: {folds}; give at least 2, one to query and one to train")
    if not 0 < share <= 1:
        raise UserError(f"share of the training identities: {share:g}; give a number in (0, 1]")
    count = round(share * data.num_classes)
    if count < _FEWEST * folds:
        of = "" if share == 1 else f" ({share:g} of {data.num_classes:,})"
        raise UserError(
            f"{data.root}: {folds} folds need at least {_FEWEST * folds} training identities, "
            f"{_FEWEST} each, and there are {count:,}{of}; lower the folds or raise the share"
        )
    order = np.random.default_rng(seed).permutation(data.num_classes)[:count].tolist()
    return [tuple(order[part::folds]) for part in range(folds)]


def _query_and_gallery(
    samples: Sequence[Sample], rng: np.random.Generator
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return queries and gallery in the order of ``samples``."""
    positions: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        positions[sample.identity, sample.camera].append(position)
    cameras = Counter(identity for identity, _ in positions)
    queries: set[int] = set()
    alone: set[int] = set()
    for (identity, _), own in sorted(positions.items()):
        drawn = own[int(rng.integers(len(own)))]
        if cameras[identity] > 1:
            queries.add(drawn)
        if len(own) == 1:
            alone.add(drawn)
    query = tuple(sample for i, sample in enumerate(samples) if i in queries)
    gallery = tuple(sample for i, sample in enumerate(samples) if i not in queries or i in alone)
    return query, gallery
