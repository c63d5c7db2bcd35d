"""What a search says at its end: numbers, and whether it has decided."""

import math
from pathlib import Path

import pytest
import torch

from dcsnas.latency.expectation import expected_latency
from dcsnas.search.outcome import SearchResult, concluded, mean_entropy
from latency_fakes import fake_table, micro_space
from plot_fakes import write_lines

SPACE = micro_space()


def run_of(folder: Path, *, certainty: float) -> Path:
    """Write probabilities that begin alike and end with ``certainty`` on every last option."""
    lines = []
    for epoch, p in ((-1, 0.0), (0, certainty)):
        rows = {}
        for decision in SPACE.decisions:
            count = len(decision.options)
            rows[decision.label] = [(1 - p) / count] * (count - 1) + [(1 - p) / count + p]
        lines.append({"epoch": epoch, **rows})
    write_lines(folder / "probabilities.jsonl", lines)
    return folder


def concluded_at(folder: Path, certainty: float, **facts: object) -> SearchResult:
    latency = expected_latency(SPACE, SPACE.size, fake_table(SPACE))
    run = run_of(folder, certainty=certainty)
    given = {"supernet": run / "s", "chosen": True, **facts}
    return concluded(run, SPACE, latency, **given)  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_last_probabilities(tmp_path: Path) -> None:
    """Wish 1: target, expected and most probable latency, entropy and score at the end."""
    result = concluded_at(tmp_path, 0.6, target_ms=0.25, metric="map", score=12.34)
    table = fake_table(SPACE)
    largest = {d.label: d.options[-1] for d in SPACE.decisions}
    assert result.most_probable_latency_ms == pytest.approx(
        table.predict_ms(SPACE.described(largest, SPACE.size)), rel=1e-5
    )
    assert result.most_probable_latency_ms is not None
    assert result.entropy is not None
    assert result.initial_latency_ms < result.final_latency_ms < result.most_probable_latency_ms
    entropies = []
    for decision in SPACE.decisions:
        count = len(decision.options)
        p = [0.4 / count] * (count - 1) + [0.4 / count + 0.6]
        entropies.append(-sum(x * math.log(x) for x in p) / math.log(count))
    assert result.entropy == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
    assert result.record() == {
        "initial_latency_ms": result.initial_latency_ms,
        "final_latency_ms": result.final_latency_ms,
        "most_probable_latency_ms": result.most_probable_latency_ms,
        "entropy": result.entropy,
        "target_ms": 0.25,
        "map": 12.34,
    }
    lines = result.lines("mAP")
    assert lines == [
        f"expected latency {result.initial_latency_ms:.3f} ms -> {result.final_latency_ms:.3f} ms, "
        "target 0.25 ms",
        f"most probable network {result.most_probable_latency_ms:.3f} ms",
        f"entropy of the choices {100 * result.entropy:.1f} % of the maximum",
        "mAP 12.3 % with the supernet's weights",
    ]
    assert result.decided


def test_a_search_that_has_not_decided_says_what_to_do(tmp_path: Path) -> None:
    result = concluded_at(tmp_path, 0.1)
    assert result.entropy
    assert result.entropy > 0.9
    assert not result.decided
    assert result.lines()[-1].startswith("not decided: above 90 % the most probable network is")
    assert "raise architecture.lr" in result.lines()[-1]


def test_a_network_that_was_drawn_decides_nothing(tmp_path: Path) -> None:
    """Sibling: strategies of random paths have no probabilities of their own."""
    result = concluded_at(tmp_path, 0.1, chosen=False, metric="map", score=5.0)
    assert (result.entropy, result.most_probable_latency_ms) == (None, None)
    assert set(result.record()) == {"initial_latency_ms", "final_latency_ms", "map"}
    assert len(result.lines("mAP")) == 2


def test_entropy_is_one_where_all_options_are_alike() -> None:
    even = {"a": torch.full((3,), 1 / 3), "b": torch.full((2,), 0.5)}
    assert mean_entropy(even).item() == pytest.approx(1)
    assert mean_entropy({"a": torch.tensor([1.0, 0.0])}).item() == 0
