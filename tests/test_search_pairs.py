"""The summary of search against random networks, from made-up rows and from the committed ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "search_vs_random.json"


def rows(derived: Sequence[float], chance: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    """Return rows of one target: a derived network and two random ones for each search."""
    found = []
    for seed, (own, other) in enumerate(zip(derived, chance, strict=True)):
        common = {"target_ms": 2.0, "seed": seed, "predicted_ms": 1.9, **more}
        found.append({**common, "kind": "derived", "map": own})
        found += [{**common, "kind": "random", "map": other + shift} for shift in (-1.0, 1.0)]
    return found


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"rows": content}))
    return path


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import search_pairs  # type: ignore[import-not-found]

    return search_pairs


def test_the_summary_is_of_the_pairs(tmp_path: Path, pairs: Any) -> None:
    """Differences 1, 2, 6: mean 3, standard error sqrt(7 / 3), t of 0.975 with 2 degrees 4.3027."""
    now = write(tmp_path / "now.json", rows([11, 22, 36], [10, 20, 30]))
    before = write(tmp_path / "before.json", rows([11, 21], [10, 20]))
    found = pairs.summary_of(now, before)
    error = (7 / 3) ** 0.5
    assert found["pooled"] == pytest.approx(3)
    assert found["se"] == pytest.approx(error)
    assert found["low95"] == pytest.approx(3 - 4.3027 * error, abs=1e-3)
    assert (found["pairs"], found["seeds"]) == (3, 3)
    assert found["budget_used_percent"] == pytest.approx(95)
    assert found["pooled_before"] == pytest.approx(1)
    assert pairs.summary_of(now, tmp_path / "none.json")["pooled_before"] is None


def test_networks_that_are_the_same_are_named_by_their_searches(pairs: Any) -> None:
    derived = [row for row in rows([1, 2, 3], [0, 0, 0]) if row["kind"] == "derived"]
    assert pairs.same_derived(derived) is None, "rows of before do not say"
    named = [{**row, "digest": digest} for row, digest in zip(derived, "aba", strict=True)]
    assert pairs.same_derived(named) == [["2.0 ms, seed 0", "2.0 ms, seed 2"]]


def test_the_committed_results_have_a_summary(pairs: Any) -> None:
    found = pairs.summary_of(RESULTS, RESULTS.with_name("none.json"))
    assert found["pairs"] == len({(r["target_ms"], r["seed"]) for r in committed()})
    assert found["low95"] < found["pooled"] < found["high95"]


def committed() -> list[dict[str, Any]]:
    return json.loads(RESULTS.read_text())["rows"]
