"""Mistakes in what a command reads: tables, data sets, weights, and runs to be continued."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import load_with_overrides
from dcsnas.nn.build import build
from dcsnas.nn.weights import WeightsHeader, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.training.train import train
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()
Fails = Callable[..., str]


def test_missing_table(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--table", "none.json", "--allow-foreign")
    assert "none.json: no such latency table" in message


def test_table_of_another_machine(fails: Fails) -> None:
    message = fails("search", "search.yaml")
    assert "table.json: measured otherwise:" in message
    assert "device_name: 'fake' in the file" in message
    assert "--allow-foreign" in message


def test_table_of_another_input_size(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--allow-foreign", "--set", "input=[32, 16]")
    assert "table.json: measured at input 16x8, this run uses 32x16" in message
    assert "profile again with --input 32x16" in message


def test_edited_table(fails: Fails, work: Path) -> None:
    text = (work / "table.json").read_text()
    (work / "table.json").write_text(text.replace('"p10": 0.0', '"p10": 0.1', 1))
    assert "the file was edited" in fails("search", "search.yaml", "--allow-foreign")


def test_truncated_table(fails: Fails, work: Path) -> None:
    text = (work / "table.json").read_text()
    (work / "table.json").write_text(text[: len(text) // 2])
    message = fails("search", "search.yaml", "--allow-foreign")
    assert "table.json: not valid JSON (truncated or edited?)" in message


def test_empty_data_folder(fails: Fails, work: Path) -> None:
    (work / "empty").mkdir()
    message = fails("search", "search.yaml", "--allow-foreign", "--data", "empty")
    assert "bounding_box_train" in message
    assert "empty" in message


def test_one_identity(fails: Fails, work: Path) -> None:
    write_reid_set(work / "lonely", identities=1)
    message = fails("retrain", "retrain.yaml", "--arch", "small.yaml", "--data", "lonely")
    assert "at least two identities are needed" in message


def test_checkpoint_of_another_architecture(fails: Fails) -> None:
    table = fake_table(SPACE)
    file = architecture_of(SPACE, smallest_choice(SPACE), table=table, seed=0)
    header = WeightsHeader(
        stage="retrain", architecture=file, space_digest=SPACE.digest, num_classes=2,
        input=(16, 8), mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    save_weights(Path("small.safetensors"), build(file.network).state_dict(), header)
    message = fails("evaluate", "small.safetensors", "--data", "people", "--arch", "large.yaml")
    assert "small.safetensors: holds weights of another architecture" in message


def test_file_that_is_no_checkpoint(fails: Fails) -> None:
    message = fails("evaluate", "space.yaml", "--data", "people")
    assert "space.yaml: not a safetensors file, or truncated" in message


def test_truncated_image(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = sorted((work / "people" / "bounding_box_train").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:200])
    arguments = ["retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "run"]
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments, "--set", "epochs=4"])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert f"error: people/bounding_box_train/{victim.name}: cannot be decoded as an image" in (
        message
    )
    # the image is met while training: the run folder says what was run, and holds no half a file
    names = {path.name for path in (work / "run").iterdir()}
    assert "model.safetensors" not in names
    assert not [name for name in names if name.endswith(".partial")]


def test_supernet_of_another_space(fails: Fails) -> None:
    other = micro_space(divisor=8)
    header = WeightsHeader(
        stage="search", architecture=None, space_digest=other.digest, num_classes=2,
        input=(16, 8), mean=(0, 0, 0), std=(1, 1, 1),
    )  # fmt: skip
    network = build(other.architecture(largest_choice(other)))
    save_weights(Path("super.safetensors"), network.state_dict(), header)
    message = fails(
        "retrain", "retrain.yaml", "--arch", "small.yaml", "--from", "super.safetensors"
    )
    assert "super.safetensors: the supernet of another search space" in message


@pytest.fixture
def stopped(work: Path) -> Path:
    """Return the folder of a retraining that a user might continue."""
    config = load_with_overrides(RetrainConfig, work / "retrain.yaml", [])
    architecture = load_architecture(work / "small.yaml")
    out = RunFolder(work / "stopped")
    train(config, architecture, out, stage="retrain", progress=False)
    return work / "stopped"


def test_run_is_not_continued_on_other_data(stopped: Path, fails: Fails, work: Path) -> None:
    first = sorted((work / "people" / "bounding_box_train").iterdir())[0]
    first.unlink()
    message = fails("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "stopped")
    assert "stopped: holds a run with another configuration" in message
    assert "inputs.data.images: there 20, now 19" in message


def test_truncated_checkpoint(stopped: Path, fails: Fails) -> None:
    checkpoint = stopped / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    message = fails("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "stopped")
    assert "last.ckpt: truncated or not a checkpoint; delete it to start this run over" in message


def test_a_runs_own_configuration_can_be_used_again(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["retrain", str(stopped / "config.yaml"), "--arch", "small.yaml", "--dry-run"]
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0
    assert "classifier_epochs: 0" in capsys.readouterr().out
