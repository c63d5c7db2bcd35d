"""What the scores of derived and random networks say: differences search by search, how sure.

Legend: a row is a trained network: its target, its search's seed, whether it was ``derived`` or
``random``, its mAP in percent.
"""

from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dcsnas.config.files import read_json
from dcsnas.evaluation.paired import paired_difference, same_networks


def summarised(rows: list[dict[str, Any]], target: float) -> dict[str, float]:
    """Return means and standard deviations of the mAP at a target, and the paired difference."""
    here = [row for row in rows if row["target_ms"] == target]
    derived, chance = ([r["map"] for r in here if r["kind"] == k] for k in ("derived", "random"))
    by_search = pairs_of(here)
    gain = paired_difference(*by_search)
    gains = [a - b for a, b in zip(*by_search, strict=True)]
    return {
        "target_ms": target,
        "derived_mean": mean(derived),
        "derived_sd": stdev(derived),
        "random_mean": mean(chance),
        "random_sd": stdev(chance),
        "gain_mean": gain.points,
        "gain_sd": stdev(gains),
        "gain_se": gain.se,
        "gain_low95": gain.low,
        "gain_high95": gain.high,
        "seeds_won": sum(gain > 0 for gain in gains),
        "seeds": len(gains),
    }


def pairs_of(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return for each search the mAP of its derived network and the mean of its random rivals'."""
    scores: dict[tuple[float, int], dict[str, list[float]]] = {}
    for row in rows:
        search = scores.setdefault((row["target_ms"], row["seed"]), {"derived": [], "random": []})
        search[row["kind"]].append(row["map"])
    derived, chance = ([mean(s[kind]) for s in scores.values()] for kind in ("derived", "random"))
    return derived, chance


def pooled(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean difference over all searches in points, how sure it is, pairs and t."""
    gain = paired_difference(*pairs_of(rows))
    return {**gain.record(), "t": gain.t}


def same_derived(rows: list[dict[str, Any]]) -> list[list[str]] | None:
    """Return which searches derived the same network; None where rows do not say."""
    derived = [row for row in rows if row["kind"] == "derived"]
    if not all("digest" in row for row in derived):
        return None
    named = {f"{row['target_ms']} ms, seed {row['seed']}": row["digest"] for row in derived}
    return same_networks(named)


def summary_of(results: Path, before: Path) -> dict[str, Any]:
    """Return what the rows of ``results`` say of all searches, beside those of ``before``."""
    rows = read_json(results)["rows"]
    gain = paired_difference(*pairs_of(rows))
    derived = [row for row in rows if row["kind"] == "derived"]
    earlier = read_json(before)["rows"] if before.exists() else None
    return {
        "pooled": gain.points,
        "se": gain.se,
        "low95": gain.low,
        "high95": gain.high,
        "pairs": gain.pairs,
        "seeds": len({row["seed"] for row in derived}),
        "budget_used_percent": 100 * mean(r["predicted_ms"] / r["target_ms"] for r in derived),
        "same_networks": same_derived(rows),
        "pooled_before": paired_difference(*pairs_of(earlier)).points if earlier else None,
    }


def print_table(summary: list[dict[str, float]]) -> None:
    """Print mean and standard deviation of the mAP, and the standard error of the difference."""
    print("| target | derived, mAP | random, mAP | derived - random (SE) | 95 % | seeds won |")
    print("|---|---|---|---|---|---|")
    for s in summary:
        cells = [f"{s['target_ms']:.2f} ms"]
        for name in ("derived", "random"):
            cells.append(f"{s[f'{name}_mean']:.1f} +- {s[f'{name}_sd']:.1f} %")
        cells.append(f"{s['gain_mean']:+.1f} +- {s['gain_se']:.1f}")
        cells.append(f"{s['gain_low95']:+.1f} to {s['gain_high95']:+.1f}")
        cells.append(f"{s['seeds_won']:.0f} of {s['seeds']:.0f}")
        print("| " + " | ".join(cells) + " |")
