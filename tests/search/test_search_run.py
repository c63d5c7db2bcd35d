"""Real searches on small data: what they write, and that a stopped one ends the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.nn.weights import read_state
from dcsnas.search.derive import derive, read_probabilities
from dcsnas.search.recording import ProbabilityLog
from dcsnas.search.run import search
from dcsnas.spaces.architecture import load_architecture, save_architecture
from latency_fakes import micro_space
from plot_fakes import write_lines
from reid_data import SIZE
from search_setup import small_search, write_search_inputs

SPACE = micro_space()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("search"))


def run(folder: Path, name: str, **changes: Any) -> RunFolder:
    run_folder = RunFolder(folder / name)
    search(small_search(folder, **changes), run_folder, allow_foreign=True, progress=False)
    return run_folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(folder: Path) -> RunFolder:
    """Return an uninterrupted search."""
    return run(folder, "finished")


def test_run_folder_holds_everything(finished: RunFolder) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert names == {
        "config.yaml", "environment.json", "inputs.json", "last.ckpt", "metrics.jsonl",
        "probabilities.jsonl", "result.json", "space.yaml", "supernet.safetensors", "table.json",
        "tensorboard",
    }  # fmt: skip
    metrics = lines(finished.metrics)
    assert [line["epoch"] for line in metrics] == [1, 2, 3, 4]
    assert "architecture/loss" not in metrics[0], "the first epoch trains weights alone"
    assert {"architecture/loss", "expected_latency_ms", "temperature"} <= set(metrics[1])
    # the bound exists after one epoch, see InformationBound
    assert [line["weights/ibb"] != 0 for line in metrics] == [False, True, True, True]
    assert metrics[-1]["weights/cross_entropy"] < metrics[0]["weights/cross_entropy"]


def test_warmup_leaves_the_choices_alone(finished: RunFolder) -> None:
    before, first, second, *_ = read_probabilities(finished.path)
    label = SPACE.decisions[0].label
    assert before["epoch"] == 0
    assert first[label] == before[label] != second[label]


@pytest.mark.parametrize("stopped_after", [0, 2])
def test_stopped_search_ends_as_the_uninterrupted_one(
    folder: Path, finished: RunFolder, stopped_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"stopped{stopped_after}"
    log = ProbabilityLog.on_train_epoch_end

    def die_later(self: ProbabilityLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == stopped_after + 1:
            raise KeyboardInterrupt  # after the epoch's lines, before its checkpoint

    monkeypatch.setattr(ProbabilityLog, "on_train_epoch_end", die_later)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(folder, name)
    monkeypatch.undo()
    if stopped_after == 2:  # as of before 0.2, whose logs count epochs from 0 and -1
        for path in (folder / name).glob("*.jsonl"):
            write_lines(path, [{**one, "epoch": one["epoch"] - 1} for one in lines(path)])
    resumed = run(folder, name)
    assert lines(resumed.metrics) == lines(finished.metrics)
    assert read_probabilities(resumed.path) == read_probabilities(finished.path)
    weights, expected = (read_state(r.path / "supernet.safetensors") for r in (resumed, finished))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_another_configuration_is_refused_in_the_same_folder(
    folder: Path, finished: RunFolder
) -> None:
    with pytest.raises(UserError, match=r"objective\.weight: there 0\.1, now 0\.7"):
        run(folder, "finished", objective={"form": "add", "weight": 0.7})


def test_larger_latency_weight_gives_a_faster_network(folder: Path) -> None:
    predicted = []
    for weight in (0.0, 100.0):
        done = run(folder, f"weight{weight}", objective={"form": "add", "weight": weight}, epochs=6)
        latency = derive(done.path).provenance.predicted_latency_ms
        assert latency is not None
        predicted.append(latency)
    assert predicted[1] < predicted[0]


def test_darts_draws_without_noise(folder: Path) -> None:
    done = run(folder, "darts", strategy="darts", epochs=2)
    assert len(read_probabilities(done.path)) == 3


def test_derived_architecture_is_the_most_probable(finished: RunFolder, tmp_path: Path) -> None:
    found = derive(finished.path)
    last = read_probabilities(finished.path)[-1]
    for decision in SPACE.decisions:
        best = max(last[decision.label])
        picked = decision.options.index(found.provenance.choice[decision.label])
        assert last[decision.label][picked] == best
    save_architecture(tmp_path / "architecture.yaml", found)
    assert load_architecture(tmp_path / "architecture.yaml") == found


def test_table_for_another_input_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"measured at input 16x8, this run uses 32x16"):
        run(folder, "other_input", input=[32, 16])
    assert not (folder / "other_input").exists()


def test_table_of_another_machine_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"device_name: 'fake' in the file"):
        search(small_search(folder), RunFolder(folder / "foreign"), progress=False)
    assert not (folder / "foreign").exists()


def test_loss_that_is_not_finite_stops_with_the_images(folder: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+.*\.jpg"):
        run(folder, "diverged", weights={"lr": 1e30})


def test_sizes_agree() -> None:
    assert SPACE.size == SIZE
