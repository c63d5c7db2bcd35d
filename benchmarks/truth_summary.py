"""What the table of truth says of what ranks networks: Kendall's tau, its interval, its ceiling.

Legend: a row of scores is a training: its network's ``target_ms`` and ``number``, its seed, its mAP
in percent. A row of rankings is a number that something gives a network: its ``ranking``, the
``seed`` of the search that it comes from, its ``value``.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dcsnas.evaluation.paired import CONFIDENCE, RESAMPLES
from dcsnas.latency.accuracy import kendall_tau

COUNTS = ("params", "macs", "predicted_ms")
"""Rankings that the rows of scores have."""
Row = Mapping[str, str]
Values = dict[tuple[str, str], dict[str, float]]
"""Of a ranking: by target and seed, the value of each network."""


def components(scores: np.ndarray) -> dict[str, float]:
    """Return standard deviations of ``scores`` [networks, seeds] from two-way analysis of variance.

    ``network`` and ``seed`` are those of the two effects, ``rest`` of what neither explains;
    ``reliability`` is the share of the variance of a network's mean that is the network's own.
    """
    networks, seeds = scores.shape
    by_network, by_seed = scores.mean(1), scores.mean(0)
    rest = scores - by_network[:, None] - by_seed + scores.mean()
    variance = (rest**2).sum() / ((networks - 1) * (seeds - 1))
    of_network = max(by_network.var(ddof=1) - variance / seeds, 0.0)
    of_seed = max(by_seed.var(ddof=1) - variance / networks, 0.0)
    return {
        "network_sd": math.sqrt(of_network),
        "seed_sd": math.sqrt(of_seed),
        "rest_sd": math.sqrt(variance),
        "reliability": of_network / (of_network + variance / seeds) if of_network else 0.0,
    }


def ceiling(reliability: float) -> float:
    """Return the tau of the networks' true scores with their means of trainings.

    For normal scores and noise, whose correlation is the root of the reliability: Kendall's tau of
    a bivariate normal is 2 / pi * asin(rho) (Kruskal, Ordinal measures of association, 1958).
    """
    return 2 / math.pi * math.asin(math.sqrt(reliability))


def score_matrices(scores: Sequence[Row]) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return for each target its networks' numbers and their mAP [networks, seeds].

    Of networks with two trainings at least, and of the seeds that all of these have; targets with
    fewer than three such networks or two such seeds are left out.
    """
    found: defaultdict[str, defaultdict[str, dict[str, float]]]
    found = defaultdict(lambda: defaultdict(dict))
    for row in scores:
        found[row["target_ms"]][row["number"]][row["seed"]] = float(row["map"])
    matrices = {}
    for target, networks in found.items():
        whole = [number for number, one in networks.items() if len(one) > 1]
        seeds = set.intersection(*(set(networks[number]) for number in whole)) if whole else set()
        if len(whole) > 2 and len(seeds) > 1:
            rows = [[networks[number][seed] for seed in sorted(seeds)] for number in whole]
            matrices[target] = (whole, np.array(rows))
    return matrices


def rankings_of(scores: Sequence[Row], rankings: Sequence[Row]) -> dict[str, Values]:
    """Return the values of every ranking, those of the scores' own columns included."""
    found: defaultdict[str, Values] = defaultdict(lambda: defaultdict(dict))
    for row in scores:
        for name in COUNTS:
            found[name][row["target_ms"], ""][row["number"]] = float(row[name])
    for row in rankings:
        place = found[row["ranking"]][row["target_ms"], row["seed"]]
        place[row["number"]] = float(row["value"])
    return dict(found)


def mean_tau(
    values: Values, means: Mapping[str, Mapping[str, float]], picked: Mapping[str, Sequence[str]]
) -> float | None:
    """Return the mean over targets and seeds of tau between ``values`` and ``means``."""
    taus = []
    for (target, _), given in values.items():
        if target not in picked:
            continue
        known = [number for number in picked[target] if number in given]
        tau = kendall_tau([given[n] for n in known], [means[target][n] for n in known])
        if tau is not None:
            taus.append(tau)
    return float(np.mean(taus)) if taus else None


def resampled(values: Values, means: Mapping[str, Mapping[str, float]]) -> list[float | None]:
    """Return the tau of a ranking over all networks, then over bootstrap samples of them.

    The samples are the same for every ranking.
    """
    rng = np.random.default_rng(0)
    numbers = {target: list(networks) for target, networks in means.items()}
    taus = [mean_tau(values, means, numbers)]
    for _ in range(RESAMPLES):
        sample = {t: rng.choice(names, len(names)).tolist() for t, names in numbers.items()}
        taus.append(mean_tau(values, means, sample))
    return taus


def ends(drawn: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the ends of the 95 % interval of bootstrap values."""
    known = [value for value in drawn if value is not None]
    tail = (1 - CONFIDENCE) / 2
    return tuple(np.quantile(known, [tail, 1 - tail]).tolist()) if known else (None, None)


def tau_of(values: Values, means: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the tau of a ranking within targets and its 95 % bootstrap interval over networks."""
    tau, *drawn = resampled(values, means)
    low, high = ends(drawn)
    searches = len({key for key in values if key[1]})
    return {"tau": tau, "low": low, "high": high, "searches": searches}


def gain_of(
    values: Values, others: Values, means: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return how much higher the tau of a ranking is than that of another.

    Of the targets and seeds that both were searched with, on the same samples of networks.
    """
    shared = values.keys() & others.keys()
    pairs = zip(
        *(resampled({key: one[key] for key in sorted(shared)}, means) for one in (values, others)),
        strict=True,
    )
    gain, *drawn = [None if a is None or b is None else a - b for a, b in pairs]
    low, high = ends(drawn)
    return {"gain": gain, "low": low, "high": high, "searches": len(shared)}


def means(rows: Iterable[Row], by: str) -> dict[str, dict[str, float]]:
    """Return for each target the mean mAP of what the column ``by`` tells apart."""
    found: defaultdict[str, defaultdict[str, list[float]]]
    found = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["target_ms"]][row[by]].append(float(row["map"]))
    return {
        target: {name: float(np.mean(one)) for name, one in each.items()}
        for target, each in found.items()
    }


def of_all_recipes(values: Mapping[str, Values], ranking: str) -> Values:
    """Return a ranking's values of every recipe, whose name the seed then begins with."""
    return {
        (target, f"{name.removesuffix(ranking)}{seed}"): own
        for name, each in values.items()
        if name.rpartition(".")[2] == ranking
        for (target, seed), own in each.items()
    }


def summary(scores: Sequence[Row], rankings: Sequence[Row]) -> dict[str, Any]:
    """Return what the benchmark ends with; ``tau`` is that of the ranking named ``supernet``.

    ``ceiling`` is of networks that were trained twice at least, and None where none were.
    """
    matrices = score_matrices(scores)
    own_means = {t: own for t, own in means(scores, "number").items() if len(own) > 2}
    spread = {target: components(matrix) for target, (_, matrix) in matrices.items()}
    reliable = [one["reliability"] for one in spread.values()]
    values = rankings_of(scores, rankings)
    taus = {name: tau_of(own, own_means) for name, own in values.items()} if own_means else {}
    for name in taus:
        recipe, _, ranking = name.rpartition(".")
        if recipe and ranking in values:
            taus[name]["over_shipped"] = gain_of(values[name], values[ranking], own_means)
    scored, likely = (of_all_recipes(values, name) for name in ("supernet", "probability"))
    first = taus.get("supernet", {"tau": None, "low": None, "high": None})
    return {
        "networks": sum(map(len, own_means.values())),
        "tau": first["tau"],
        "tau_low": first["low"],
        "tau_high": first["high"],
        "ceiling": ceiling(float(np.mean(reliable))) if reliable else None,
        "trainings": len(scores),
        "trained_twice": sum(len(names) for names, _ in matrices.values()),
        "targets": {
            target: {
                "networks": len(own),
                "mean": float(np.mean(list(own.values()))),
                "sd": float(np.std(list(own.values()), ddof=1)),
                "best": max(own.values()),
                **spread.get(target, {}),
            }
            for target, own in own_means.items()
        },
        "rankings": taus,
        "supernet_over_probability": gain_of(scored, likely, own_means),
    }
