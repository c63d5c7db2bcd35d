"""Sparse tables: the few operators that are measured, and the times that follow for the others.

The operators of a group differ in their widths alone. A convolution over a fixed number of
positions costs something for each channel that it reads and writes and something for each pair of
them, so a group's times are fitted by least squares on 1, its widths and the products of
consecutive ones. Vector instructions compute output channels a register at a time, full or not: a
width after the first also counts rounded up, and it is the rounded one in the products.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from dcsnas.latency.conditions import Statistic
from dcsnas.latency.table import Entry, InterpolatedEntry
from dcsnas.spaces.network import Operator

Widths = tuple[int, ...]

_POINTS = 16  # measured of a group: twice the features of a block, and all of a small group
_LANES = 16  # float32 values in an AVX-512 register, and in a channel block of ONNX Runtime
_LOWEST = 0.5  # of the smallest measured time of a group; in complete tables none was below 0.89
_RIDGE = 1e-3  # lets a design start from nothing; small beside the first points' information
_TOLERANCE = 1e-9  # singular values below this fraction of the largest are rounding errors


def chosen(operators: Mapping[str, Operator]) -> list[str]:
    """Return the keys of ``operators`` to measure so that the others can be interpolated.

    At most 16 of a group, in the order of ``operators``: 5.5 % of ``fbnetv2``, and more of a space
    that offers fewer widths.
    """
    picked: set[str] = set()
    for group in _groups(operators):
        keys = list(group)
        if len(keys) > _POINTS:
            keys = [keys[row] for row in most_telling(_features(group.values()), _POINTS)]
        picked.update(keys)
    return [key for key in operators if key in picked]


def interpolate(
    operators: Mapping[str, Operator],
    measured: Mapping[str, Entry],
    statistic: Statistic,
    reference_ms: float,
) -> dict[str, InterpolatedEntry]:
    """Return entries for those of ``operators`` that are not in ``measured``, by key.

    The fit minimises squared relative errors, and no time is less than half the smallest that was
    measured in its group. Groups get no entries where too few were measured to determine the fit
    and to judge it.
    """
    entries: dict[str, InterpolatedEntry] = {}
    for group in _groups(operators):
        known = [key in measured for key in group]
        times = np.array(
            [measured[key].value_ms(statistic, reference_ms) for key in group if key in measured]
        )
        features = _features(group.values())
        design = features[known] / times[:, None]
        count, rank = design.shape
        if count <= rank or np.linalg.matrix_rank(design, rtol=_TOLERANCE) < rank:
            continue
        coefficients = np.linalg.lstsq(design, np.ones(count))[0]
        rms_percent = 100 * float(np.sqrt(np.mean((design @ coefficients - 1) ** 2)))
        predicted = np.maximum(features @ coefficients, _LOWEST * times.min()).tolist()
        for key, ms in zip(group, predicted, strict=True):
            if key not in measured:
                entries[key] = InterpolatedEntry(ms=ms, rms_percent=rms_percent)
    return entries


def _groups(operators: Mapping[str, Operator]) -> list[dict[str, Widths]]:
    """Return the widths of all operators by key, one dictionary a group."""
    groups: dict[object, dict[str, Widths]] = defaultdict(dict)
    for key, operator in operators.items():
        widths = operator.layer.widths
        groups[operator.layer.form, len(widths), operator.size][key] = widths
    return list(groups.values())


def _features(group: Collection[Widths]) -> NDArray[np.float64]:
    """Return what the times of a group are fitted on, a row for each operator.

    The columns are an orthogonal basis of the features: as many as vary independently, for some
    groups have a constant width, or one that is a multiple of another.
    """
    widths = np.array([*group], dtype=float)
    before, after = widths[:, :-1], np.ceil(widths[:, 1:] / _LANES) * _LANES
    if widths.shape[1] == 1:  # attention multiplies its one width with itself
        before = after = widths
    columns = np.hstack([np.ones((len(widths), 1)), widths, after, before * after])
    basis, singular, _ = np.linalg.svd(columns / columns.max(axis=0), full_matrices=False)
    return basis[:, singular > _TOLERANCE * singular[0]] * np.sqrt(len(basis))


def most_telling(features: NDArray[np.float64], count: int) -> list[int]:
    """Return ``count`` rows to measure: always the one that those before it tell least about.

    That is a greedy D-optimal design. It takes the extremes of the widths first, so that the fit
    interpolates.
    """
    information = _RIDGE * np.eye(features.shape[1])
    rows: list[int] = []
    for _ in range(count):
        variance = np.einsum("ij,jk,ik->i", features, np.linalg.inv(information), features)
        variance[rows] = -1.0
        row = int(np.argmax(np.round(variance, 9)))  # the first of those that tie
        rows.append(row)
        information += np.outer(features[row], features[row])
    return rows
