"""The hinge, through ``dcsnas search``, a stop in its midst, and ``dcsnas derive``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcsnas.config.files import read_json
from dcsnas.search.cost_terms import reach
from dcsnas.search.recording import ProbabilityLog
from dcsnas.spaces.architecture import load_architecture
from latency_fakes import fake_table, micro_space
from search_setup import small_search, write_search_inputs

PLUGIN = ("--plugin", "examples.extending.cost_form")
SPACE = micro_space()
LOW, HIGH = reach("latency", SPACE, SPACE.size, fake_table(SPACE))
LIMIT = LOW + 0.3 * (HIGH - LOW)


def stop_after_two_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ProbabilityLog.on_train_epoch_end

    def stop(self: ProbabilityLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == 2:
            raise SystemExit(1)

    monkeypatch.setattr(ProbabilityLog, "on_train_epoch_end", stop)


def test_a_search_below_a_limit(dcsnas: Callable[..., str]) -> None:
    content = small_search(write_search_inputs(Path()), epochs=6).model_dump(mode="json")
    hinge = {"form": "hinge", "limit": LIMIT, "weight": 100.0}
    Path("search.yaml").write_text(yaml.safe_dump({**content, "objective": hinge}))
    search = (*PLUGIN, "search", "search.yaml", "--allow-foreign")
    wrong = dcsnas(*search, "--set", "objective.limt=1", code=2)
    assert (
        wrong
        == "error: --set objective.limt=1: objective.limt: unknown key; did you mean 'limit'?\n"
    )
    wrong = dcsnas(*search, "--set", f"objective.limit={0.9 * LOW}", code=2)
    assert "networks of space micro have " in wrong
    assert wrong.endswith(" ms with this table; give a higher limit\n")

    dcsnas(*search, "--out", "whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_after_two_epochs(monkeypatch)
        dcsnas(*search, "--out", "stopped", code=1)
    assert not Path("stopped/result.json").exists()
    dcsnas(*search, "--out", "stopped")
    for name in ("metrics.jsonl", "probabilities.jsonl", "result.json"):
        assert Path("stopped", name).read_text() == Path("whole", name).read_text()

    result = read_json(Path("whole/result.json"))
    assert result["initial_latency_ms"] > LIMIT > result["final_latency_ms"]

    shown = dcsnas(*PLUGIN, "derive", "stopped")
    origin = load_architecture(Path("stopped/architecture.yaml")).provenance
    assert origin.target_ms == LIMIT
    assert origin.predicted_latency_ms is not None
    assert origin.predicted_latency_ms <= LIMIT
    assert f" of {LIMIT:g} ms, " in shown
    assert "the target is that of the search" in shown
