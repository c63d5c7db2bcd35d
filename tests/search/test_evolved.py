"""``derive --evolve``: the real command on a small search, killed and continued, and refused."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.search.derive import derive, derive_ranked
from dcsnas.search.derived_weights import SCORES, rank_by_score, score_derived
from dcsnas.search.evolved import evolve_by_score
from dcsnas.search.run import search
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.units import MB
from killed_search import Fault, command, die, die_in_a_line
from search_setup import small_search, write_search_inputs

APPEND = "dcsnas.search.derived_weights:append_line"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished search in ``run`` that had no target."""
    root = write_search_inputs(tmp_path_factory.mktemp("evolved"))
    search(small_search(root), RunFolder(root / "run"), allow_foreign=True, progress=False)
    return root


@pytest.fixture(autouse=True)
def run(folder: Path) -> Path:
    """Return the run, without scores of other tests."""
    (folder / "run" / SCORES).unlink(missing_ok=True)
    return folder / "run"


@pytest.fixture(scope="module")
def target_ms(folder: Path) -> float:
    """Return the latency in the middle of the space's."""
    ranked = derive_ranked(folder / "run", count=60)
    return sorted(one.provenance.predicted_latency_ms or 0.0 for one in ranked)[len(ranked) // 2]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / SCORES).read_text().splitlines()]


def test_it_is_the_best_of_distinct_networks_within_the_budget(run: Path, target_ms: float) -> None:
    heard: list[tuple[int, int]] = []
    found = evolve_by_score(
        run,
        scores=12,
        target_ms=target_ms,
        within_percent=20,
        progress=lambda done, total: heard.append((done, total)),
    )
    assert len(found.scored) == 12
    assert heard == [(i, 12) for i in range(1, 13)]
    kept = lines(run)
    assert [line["scores"]["map"] for line in kept] == [one.score for one in found.scored]
    assert len({line["network"] for line in kept}) == 12
    assert found.best == max(one.score for one in found.scored)
    used = found.found.provenance.predicted_latency_ms or 0.0
    assert 0.8 * target_ms <= used <= target_ms
    assert found.found.provenance.target_ms == target_ms
    (first, best) = score_derived(
        run, [derive(run, target_ms=target_ms, within_percent=20), found.found]
    )
    assert (first["map"], best["map"]) == (found.first, found.best)


def test_a_network_is_scored_once_by_all_calls(run: Path, target_ms: float) -> None:
    limits: dict[str, Any] = {"target_ms": target_ms, "within_percent": 20.0}
    ranked = rank_by_score(run, count=3, **limits)
    assert len(lines(run)) == 3
    found = evolve_by_score(run, scores=8, **limits)
    assert (found.known, len(lines(run))) == (3, 8)
    assert [one.score for one in found.scored[:3]] == ranked.scores


def test_scores_of_another_supernet_do_not_count(run: Path, target_ms: float) -> None:
    limits: dict[str, Any] = {"target_ms": target_ms, "within_percent": 20.0}
    first = evolve_by_score(run, scores=3, **limits)
    others = [{**line, "supernet": "0", "scores": {"map": 100.0}} for line in lines(run)]
    (run / SCORES).write_text("".join(json.dumps(line) + "\n" for line in others))
    again = evolve_by_score(run, scores=3, **limits)
    assert (again.known, again.scored) == (0, first.scored)


def test_a_peak_memory_is_a_budget(run: Path) -> None:
    peaks = sorted({one.memory_mb for one in derive_ranked(run, count=60)})
    found = evolve_by_score(run, scores=5, target_memory_mb=peaks[1], within_percent=1)
    assert found.found.memory_mb == peaks[1]
    assert found.found.memory_bytes == peaks[1] * MB


def test_what_cannot_be_evolved_is_refused(run: Path, target_ms: float) -> None:
    with pytest.raises(UserError, match=r"no budget: the search had no target; give --target-ms"):
        evolve_by_score(run)
    just_below = target_ms * 0.999
    message = r"no network was found within 0\.001 % below .*: give --within-percent (\S+) or"
    with pytest.raises(UserError, match=message) as refused:
        evolve_by_score(run, target_ms=just_below, within_percent=0.001)
    named = float(str(refused.value).split("--within-percent ")[1].split()[0])
    assert evolve_by_score(run, scores=1, target_ms=just_below, within_percent=named).scored
    with pytest.raises(UserError, match=r"--scores 0: expected a number from 1 to 10,000"):
        evolve_by_score(run, scores=0, target_ms=target_ms)


def evolved(
    folder: Path, target_ms: float, out: str, *options: str, fault: Fault | None = None
) -> Any:
    arguments = ["derive", "run", "--evolve", "--target-ms", str(target_ms), "--out", out]
    arguments += ["--within-percent", "20", *(options or ("--scores", "12"))]
    return command(folder, arguments, fault)


@pytest.mark.parametrize("act", [die, die_in_a_line])
def test_killed_it_comes_to_the_same_end(
    folder: Path, run: Path, target_ms: float, act: Callable[..., Any]
) -> None:
    whole, killed = f"whole_{act.__name__}.yaml", f"killed_{act.__name__}.yaml"
    ended = evolved(folder, target_ms, whole)
    assert ended.code == 0, ended.output
    assert "12 scores spent\n" in ended.output
    scores = (run / SCORES).read_bytes()
    (run / SCORES).unlink()
    torn = partial(torn_line, act)
    dead = evolved(folder, target_ms, killed, fault=Fault(APPEND, 5, torn))
    assert dead.code == -signal.SIGKILL, dead.output
    assert not (folder / killed).exists()
    again = evolved(folder, target_ms, killed)
    assert again.code == 0, again.output
    assert "12 scores spent, 4 of them by an earlier call\n" in again.output
    assert (run / SCORES).read_bytes() == scores
    assert (folder / killed).read_bytes() == (folder / whole).read_bytes()
    best = load_architecture(folder / killed)
    assert best.provenance.target_ms == target_ms


def torn_line(act: Callable[..., Any], call: Callable[[], Any], path: Path, record: Any) -> Any:
    """Die before a line is written, or in the middle of it."""
    return act(call, path, record)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--best-of", "3"), "--best-of: --evolve scores the most probable networks first;"),
        (("--top-k", "3"), "--evolve: is of one network; leave --top-k out"),
        (("--scores", "0"), "--scores 0: expected a number from 1 to 10,000"),
    ],
)
def test_options_that_do_not_go_together(
    folder: Path, target_ms: float, options: tuple[str, ...], message: str
) -> None:
    ended = evolved(folder, target_ms, "x.yaml", *options)
    assert ended.code == 2
    assert f"error: {message}" in ended.output
    assert not (folder / "x.yaml").exists()


def test_its_settings_alone_are_refused(folder: Path) -> None:
    ended = command(folder, ["derive", "run", "--scores", "5"])
    assert ended.code == 2
    assert "error: --scores: is for --evolve; give that, or leave it out" in ended.output
