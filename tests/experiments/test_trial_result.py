"""What a trial says about its network is about that network."""

from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.jsonl import read_records
from dcsnas.experiments import trial
from dcsnas.experiments.channel import Channel
from dcsnas.search.derived_weights import score_derived
from dcsnas.spaces.architecture import load_architecture
from experiment_setup import small_sweep
from reid_data import write_class_folder


def run(
    inputs: Path, path: Path, key: str, value: float, **search: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Return the result of a trial with this one parameter, and the epochs that it reported."""
    sent: list[Any] = []
    changed = {**small_sweep(inputs).search.model_dump(mode="json"), **search}
    parameters = {"p": {"key": key, "values": [value]}}
    sweep = small_sweep(inputs, search=changed, parameters=parameters)
    channel = Channel("abc", {"p": value}, lambda kind, epoch, values: sent.append((epoch, values)))
    return trial.run_trial(sweep, path, channel), sent


def test_result_of_the_most_probable_network(inputs: Path, tmp_path: Path) -> None:
    result, sent = run(inputs, tmp_path, "objective.weight", 0.5)
    records = read_records(tmp_path / "search" / "metrics.jsonl")
    scores = [record["validation/map"] for record in records]
    assert [values["default"] for _, values in sent] == pytest.approx(scores)
    assert [epoch for epoch, _ in sent] == list(range(len(records)))
    found = load_architecture(tmp_path / "architecture.yaml")
    assert result == read_json(tmp_path / "result.json")
    (score,) = score_derived(tmp_path / "search", [found])
    assert result["default"] == score["map"] == pytest.approx(scores[-1])
    assert result["validation_rank1"] == score["rank1"]
    assert result["predicted_ms"] == pytest.approx(records[-1]["most_probable_latency_ms"])
    assert (result["params_m"], result["ran_p"]) == (found.params / 1e6, 0.5)
    assert "target_ms" not in result


def test_result_of_a_network_within_the_target(inputs: Path, tmp_path: Path) -> None:
    # too weak to keep the most probable network within the target
    weak = {"form": "target", "target": 1, "penalty": 0, "rate": 1e-6}
    result, _ = run(inputs, tmp_path, "target_share", 0.1, objective=weak)
    last = read_records(tmp_path / "search" / "metrics.jsonl")[-1]
    found = load_architecture(tmp_path / "architecture.yaml")
    assert last["most_probable_latency_ms"] > result["target_ms"] >= result["predicted_ms"]
    assert found.provenance.predicted_latency_ms == result["predicted_ms"]
    (score,) = score_derived(tmp_path / "search", [found])
    assert result["default"] == result["validation_map"] == score["map"]
    assert result["default"] != last["validation/map"]


def test_diverged_trial_has_no_result(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"validation_map": float("nan")}
    monkeypatch.setattr(trial, "_score", lambda path, found, metric: scores)
    with pytest.raises(UserError, match="the score is nan: the training diverged; lower its rate"):
        run(inputs, tmp_path, "target_share", 0.5)
    assert not (tmp_path / "result.json").exists()


def test_result_of_another_task(inputs: Path, tmp_path: Path) -> None:
    data = {"root": str(write_class_folder(tmp_path / "classes")), "workers": 0}
    content = small_sweep(inputs).search.model_dump(mode="json", exclude={"batch", "loss"})
    common = {"task": "classify", "data": data, "batch_size": 8, "augment": {"pad": 1}}
    sweep = small_sweep(
        inputs, search={**content, **common}, retrain={**common, "epochs": 2}, measure=False
    )
    sent: list[Any] = []
    channel = Channel("abc", {"weight": 0.5}, lambda kind, epoch, values: sent.append(values))
    result = trial.run_trial(sweep, tmp_path / "trial", channel)
    scores = [
        record["validation/accuracy"]
        for record in read_records(tmp_path / "trial" / "search" / "metrics.jsonl")
    ]
    assert [values["default"] for values in sent] == pytest.approx(scores)
    assert result["validation_accuracy"] == pytest.approx(scores[-1])
    metrics = read_json(tmp_path / "trial" / "retrain" / "metrics.json")
    assert result["default"] == result["accuracy"] == metrics["accuracy"]
    assert not {"map", "validation_map"} & result.keys()
