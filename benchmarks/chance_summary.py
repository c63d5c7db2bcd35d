"""What the scores of derived and of random networks say: differences at one latency, how sure.

Legend: a row of ``derived`` is a training of a network that a search found: its ``recipe``, the way
it was picked, its target, the search's seed, its mAP in percent. A row of ``scores`` is one of a
random network of the table of truth. A network counts by the mean of its trainings.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from truth_summary import Row, means

from dcsnas.config.files import read_json
from dcsnas.evaluation.paired import paired_difference, same_networks, unpaired_difference


def lists(rows: Iterable[Row], by: str) -> dict[str, list[float]]:
    """Return for each target the mean mAP of each of what the column ``by`` tells apart."""
    return {target: list(own.values()) for target, own in means(rows, by).items()}


def compared(rows: Sequence[Row], chance: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return what the searches of one recipe, each a value, gain over random networks."""
    found = lists(rows, "search_seed")
    targets = [t for t in found if len(found[t]) > 1 and len(chance.get(t, ())) > 1]
    by_target = {}
    for target in targets:
        gain = unpaired_difference([(found[target], chance[target])])
        above = [sum(value > other for other in chance[target]) for value in found[target]]
        by_target[target] = {
            "derived_mean": mean(found[target]),
            "random_mean": mean(chance[target]),
            "random_best": max(chance[target]),
            "searches": len(found[target]),
            "random_networks": len(chance[target]),
            "better_than": mean(above) / len(chance[target]),
            **gain.record(),
        }
    whole = unpaired_difference([(found[t], chance[t]) for t in targets]) if targets else None
    used = [100 * float(row["predicted_ms"]) / float(row["target_ms"]) for row in rows]
    named = {f"{r['target_ms']} ms, seed {r['search_seed']}": r["digest"] for r in rows}
    return {
        "pooled": whole.record() if whole else None,
        "t": whole.t if whole else None,
        "searches": sum(len(found[target]) for target in targets),
        "trainings": len(rows),
        "budget_used_percent": mean(used),
        "same_networks": same_networks(named),
        "targets": by_target,
    }


def summary(derived: Sequence[Row], scores: Sequence[Row], before: Path) -> dict[str, Any]:
    """Return what ``search_vs_random.py`` ends with: the shipped recipe first, then all of them.

    ``before`` holds the rows of the benchmark's earlier form, pairs of a search and two rivals.
    """
    chance = lists(scores, "number")
    recipes: defaultdict[str, list[Row]] = defaultdict(list)
    for row in derived:
        recipes[f"{row['recipe']}, {row['pick']}"].append(row)
    found = {name: compared(rows, chance) for name, rows in recipes.items()}
    first = found.get("shipped, most probable")
    pooled = (first and first["pooled"]) or dict.fromkeys(("points", "se", "low95", "high95"))
    used = [100 * float(row["predicted_ms"]) / float(row["target_ms"]) for row in scores]
    return {
        "pooled": pooled["points"],
        "se": pooled["se"],
        "low95": pooled["low95"],
        "high95": pooled["high95"],
        "pairs": first["searches"] if first else 0,
        "budget_used_percent": first["budget_used_percent"] if first else None,
        "random_budget_used_percent": mean(used) if used else None,
        "pooled_before": paired_difference(*pairs_before(before)).points,
        "recipes": found,
    }


def pairs_before(path: Path) -> tuple[list[float], list[float]]:
    """Return for each earlier search the mAP of its network and the mean of its random rivals'."""
    scores: dict[tuple[float, int], dict[str, list[float]]] = {}
    for row in read_json(path)["rows"]:
        search = scores.setdefault((row["target_ms"], row["seed"]), {"derived": [], "random": []})
        search[row["kind"]].append(row["map"])
    derived, chance = ([mean(s[kind]) for s in scores.values()] for kind in ("derived", "random"))
    return derived, chance


def print_table(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Print by recipe and target the mean mAP, and the difference with its standard error."""
    print("| recipe | target | derived, mAP | random, mAP | derived - random (SE) | 95 % |")
    print("|---|---|---|---|---|---|")
    for name, recipe in recipes.items():
        for target, one in recipe["targets"].items():
            cells = [name, f"{float(target):.2f} ms", f"{one['derived_mean']:.1f} %"]
            cells += [f"{one['random_mean']:.1f} %", *_difference(one)]
            print("| " + " | ".join(cells) + " |")
        if recipe["pooled"]:
            print("| " + " | ".join([name, "all", "", "", *_difference(recipe["pooled"])]) + " |")


def _difference(found: Mapping[str, float]) -> list[str]:
    ends = f"{found['low95']:+.1f} to {found['high95']:+.1f}"
    return [f"{found['points']:+.1f} +- {found['se']:.1f}", ends]
