"""What the table of truth says of rankings: variances, the ceiling, tau and differences of tau."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import truth_summary  # type: ignore[import-not-found]

    monkeypatch.setattr(truth_summary, "RESAMPLES", 60)
    return truth_summary


def score_rows(scores: Any, target: str = "2.000") -> list[dict[str, str]]:
    """Return a row a training of ``scores`` [networks, seeds]."""
    return [
        {"target_ms": target, "number": str(number), "seed": str(seed), "map": str(value),
         "params": str(number), "macs": str(-number), "predicted_ms": "2"}
        for number, own in enumerate(scores) for seed, value in enumerate(own)
    ]  # fmt: skip


def ranking_rows(name: str, values: Any, seed: str = "0") -> list[dict[str, str]]:
    return [
        {"target_ms": "2.000", "number": str(n), "ranking": name, "seed": seed, "value": str(v)}
        for n, v in enumerate(values)
    ]


def test_variances_are_those_that_scores_were_drawn_with(truth: Any) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 3, (2000, 1)) + rng.normal(0, 2, (2000, 4)) + [0.0, 1.0, -1.0, 5.0]
    found = truth.components(scores)
    assert found["network_sd"] == pytest.approx(3, rel=0.05)
    assert found["rest_sd"] == pytest.approx(2, rel=0.05)
    assert found["seed_sd"] == pytest.approx(np.std([0, 1, -1, 5], ddof=1), rel=0.05)
    assert found["reliability"] == pytest.approx(9 / (9 + 4 / 4), rel=0.02)


def test_the_ceiling_is_the_tau_of_true_scores_with_noisy_means(truth: Any) -> None:
    rng = np.random.default_rng(1)
    own = rng.normal(0, 3, 4000)
    means = own + rng.normal(0, 2, (2, 4000)).mean(0)
    assert truth.ceiling(9 / (9 + 4 / 2)) == pytest.approx(kendalltau(own, means)[0], abs=0.02)
    assert truth.ceiling(1.0) == pytest.approx(1.0)


def test_rankings_are_compared_on_the_same_networks(truth: Any) -> None:
    rng = np.random.default_rng(2)
    own = rng.normal(60, 5, 12)
    scores = score_rows(own[:, None] + rng.normal(0, 1, (12, 2)))
    shipped, better = own + rng.normal(0, 8, 12), own + rng.normal(0, 1, 12)
    rows = [*ranking_rows("supernet", shipped), *ranking_rows("new.supernet", better)]
    rows += ranking_rows("new.probability", -better)
    found = truth.summary(scores, [*rows, *ranking_rows("supernet", better, seed="1")])
    means = [np.mean([float(r["map"]) for r in scores[2 * n : 2 * n + 2]]) for n in range(12)]
    taus = [float(kendalltau(ranking, means)[0]) for ranking in (shipped, better)]  # type: ignore
    assert found["tau"] == pytest.approx(np.mean(taus))
    assert found["tau_low"] < found["tau"] < found["tau_high"]
    gain = found["rankings"]["new.supernet"]["over_shipped"]
    assert gain["gain"] == pytest.approx(taus[1] - taus[0]), "of the seed that both have"
    assert gain["searches"] == 1
    assert gain["low"] < gain["gain"] < gain["high"]
    same = truth.gain_of(*[truth.rankings_of(scores, rows)["new.supernet"]] * 2, {
        "2.000": {str(n): mean for n, mean in enumerate(means)}})  # fmt: skip
    assert (same["gain"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    over = found["supernet_over_probability"]
    assert (over["gain"], over["searches"]) == (pytest.approx(2 * taus[1]), 1), "of one recipe"
    assert found["rankings"]["macs"]["tau"] == pytest.approx(-found["rankings"]["params"]["tau"])


def test_the_ceiling_is_of_networks_that_were_trained_twice(truth: Any) -> None:
    scores = score_rows(np.random.default_rng(3).normal(60, 5, (5, 2)))
    found = truth.summary(scores[:-1], [])
    assert (found["networks"], found["trained_twice"], found["trainings"]) == (5, 4, 9)
    once = truth.summary([row for row in scores if row["seed"] == "0"], [])
    assert (once["networks"], once["trained_twice"], once["ceiling"]) == (5, 0, None)
    assert truth.summary([], [])["tau"] is None
