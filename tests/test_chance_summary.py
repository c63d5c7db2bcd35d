"""The summary of search against random networks, from made-up rows and from those kept before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BEFORE = BENCHMARKS / "results" / "search_vs_random_before.json"


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import chance_summary  # type: ignore[import-not-found]

    return chance_summary


def derived(scores: Sequence[float], digests: str = "abc", **more: str) -> list[dict[str, str]]:
    """Return rows of one target: for each search two trainings, a point around its score."""
    common = {"recipe": "shipped", "pick": "most probable", "target_ms": "2.000", **more}
    return [
        {**common, "search_seed": str(seed), "seed": str(training), "digest": digest,
         "predicted_ms": "1.9", "map": str(score + 2 * training - 1)}
        for seed, (score, digest) in enumerate(zip(scores, digests, strict=True))
        for training in (0, 1)
    ]  # fmt: skip


def random_networks(scores: Sequence[float]) -> list[dict[str, str]]:
    """Return rows of networks of the table of truth, each trained twice, half a point around."""
    common = {"target_ms": "2.000", "predicted_ms": "2.0"}
    return [
        {**common, "number": str(number), "seed": str(seed), "map": str(score + seed - 0.5)}
        for number, score in enumerate(scores)
        for seed in (0, 1)
    ]


def test_a_network_counts_by_the_mean_of_its_trainings(chance: Any) -> None:
    own, others = [70.0, 74.0, 72.0], [60.0, 71.0, 68.0, 65.0]
    found = chance.summary(derived(own), random_networks(others), BEFORE)
    ends = ttest_ind(own, others, equal_var=False).confidence_interval(0.95)
    assert found["pooled"] == pytest.approx(6.0)
    assert (found["low95"], found["high95"]) == pytest.approx((ends.low, ends.high))
    assert (found["pairs"], found["budget_used_percent"]) == (3, pytest.approx(95))
    target = found["recipes"]["shipped, most probable"]["targets"]["2.000"]
    assert target["better_than"] == pytest.approx((3 / 4 + 1 + 1) / 3)
    assert target["random_best"] == 71.0


def test_other_recipes_and_ways_to_pick_stand_beside(chance: Any) -> None:
    rows = derived([70.0, 72.0], "ab") + derived([75.0, 77.0], "cc", pick="best of 50")
    found = chance.summary(rows, random_networks([60.0, 62.0]), BEFORE)
    assert list(found["recipes"]) == ["shipped, most probable", "shipped, best of 50"]
    other = found["recipes"]["shipped, best of 50"]
    assert (found["pooled"], other["pooled"]["points"]) == (10.0, 15.0)
    assert other["same_networks"] == [["2.000 ms, seed 0", "2.000 ms, seed 1"]]


def test_one_search_has_no_difference(chance: Any) -> None:
    found = chance.summary(derived([70.0], "a"), random_networks([60.0, 62.0]), BEFORE)
    assert (found["pooled"], found["pairs"]) == (None, 0)


def test_the_benchmark_before_is_kept_as_pairs(chance: Any) -> None:
    rows = json.loads(BEFORE.read_text())["rows"]
    own, rivals = chance.pairs_before(BEFORE)
    assert len(own) == len(rivals) == len({(r["target_ms"], r["seed"]) for r in rows})
    assert chance.summary([], [], BEFORE)["pooled_before"] == pytest.approx(4.5026, abs=1e-4)
