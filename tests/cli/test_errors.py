"""Every mistake ends with exit code 2 and one message that says what to do, and leaves nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from dcsnas.cli.main import run
from dcsnas.config.overrides import load_with_overrides
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.latency.table import save_table
from dcsnas.nn.build import build
from dcsnas.nn.weights import WeightsHeader, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.training.retrain import retrain
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()
Fails = Callable[..., str]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with configurations, a space, a table and a data set."""
    monkeypatch.chdir(tmp_path)
    write_reid_set(Path("people"), identities=4)
    Path("space.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    table = fake_table(SPACE)
    save_table(Path("table.json"), table.file)
    save_architecture(
        Path("large.yaml"), architecture_of(SPACE, largest_choice(SPACE), table=table, seed=0)
    )
    save_architecture(
        Path("small.yaml"), architecture_of(SPACE, smallest_choice(SPACE), table=table, seed=0)
    )
    batch = {"identities": 2, "images": 2}
    search = {
        "space": "space.yaml", "table": "table.json", "data": {"root": "people", "workers": 0},
        "epochs": 1, "batch": batch, "augment": {"pad": 0},
    }  # fmt: skip
    retrain = {key: search[key] for key in ("data", "epochs", "batch", "augment")}
    Path("search.yaml").write_text(yaml.safe_dump(search))
    Path("retrain.yaml").write_text(yaml.safe_dump(retrain))
    return tmp_path


@pytest.fixture
def fails(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Return a function that runs a command, checks how it fails, and returns the message."""

    def command(*arguments: str) -> str:
        before = sorted(work.rglob("*"))
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert "Traceback" not in captured.out + captured.err
        assert sorted(work.rglob("*")) == before, "something was left behind"
        return captured.err

    return command


def test_unknown_key_is_named_with_a_suggestion(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "objective.wieght=1")
    assert "search.yaml: objective.wieght: unknown key; did you mean 'weight'?" in message


def test_every_mistake_of_a_file_is_told_at_once(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "epochs=0", "--set", "split=2")
    assert "search.yaml: epochs: Input should be greater than 0 (given: 0)" in message
    assert "search.yaml: split: Input should be less than 1 (given: 2)" in message


def test_override_that_is_no_pair(fails: Fails) -> None:
    assert "--set epochs: expected key.path=value" in fails(
        "search", "search.yaml", "--set", "epochs"
    )


def test_missing_configuration(fails: Fails) -> None:
    assert "nowhere.yaml: no such file" in fails("search", "nowhere.yaml")


def test_unknown_space(fails: Fails) -> None:
    message = fails("spaces", "fbnetv9")
    assert "no search space called 'fbnetv9'; shipped: fbnetv2, " in message


def test_missing_table(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--table", "none.json", "--allow-foreign")
    assert "none.json: no such file" in message


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


def test_more_identities_asked_for_than_there_are(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--allow-foreign", "--set", "batch.identities=99")
    assert "batch.identities is 99, but the training images show 4 identities" in message


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


def test_input_size_that_is_no_size(fails: Fails) -> None:
    assert "--input 64: expected HEIGHTxWIDTH" in fails("profile", "tiny", "--input", "64")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "command",
    [
        ["profile", "space.yaml", "--device", "cuda"],
        ["search", "search.yaml", "--allow-foreign", "--set", "run.device=cuda"],
        ["retrain", "retrain.yaml", "--arch", "small.yaml", "--set", "run.device=cuda"],
    ],
    ids=["profile", "search", "retrain"],
)
def test_cuda_where_there_is_none(fails: Fails, command: list[str]) -> None:
    message = fails(*command)
    assert "cuda" in message
    assert "CUDA device here; use" in message


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


def test_run_that_would_train_nothing(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "architecture.warmup_epochs=1")
    assert "architecture.warmup_epochs is 1 of 1 epochs, so the architecture would never" in message
    message = fails(
        "retrain", "retrain.yaml", "--arch", "small.yaml", "--set", "classifier_epochs=1"
    )
    assert "classifier_epochs is 1 of 1 epochs, so the backbone would never be trained" in message


def test_mixup_is_no_part_of_a_search(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "augment.mixup=0.5")
    assert "augment.mixup: unknown key" in message


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


def test_run_folder_that_is_a_file(fails: Fails) -> None:
    message = fails("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "space.yaml")
    assert "space.yaml: is a file; a run needs a folder" in message


def test_file_that_is_a_folder(fails: Fails) -> None:
    assert "people: is a folder; give the path of a file" in fails(
        "derive", "people", "--out", "people"
    )


def test_derive_needs_a_search(fails: Fails, work: Path) -> None:
    (work / "retrained").mkdir()
    (work / "retrained" / "config.yaml").write_text("stage: retrain\n")
    assert "retrained: holds a retrain run; give the run folder of dcsnas search" in fails(
        "derive", "retrained"
    )
    assert "people: is no run folder" in fails("derive", "people")


def test_value_that_is_no_date(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "run.seed=2020-13-45")
    assert "'2020-13-45' is not a YAML value" in message


def test_unknown_shipped_configuration(fails: Fails) -> None:
    message = fails("search", "search_huge")
    assert "no configuration called 'search_huge'; shipped: " in message
    assert "search_fbnetv2" in message


@pytest.fixture
def stopped(work: Path) -> Path:
    """Return the folder of a retraining that a user might continue."""
    config = load_with_overrides(RetrainConfig, work / "retrain.yaml", [])
    architecture = load_architecture(work / "small.yaml")
    retrain(config, architecture, RunFolder(work / "stopped"), progress=False)
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


def test_path_with_a_hash_is_taken_as_it_is(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--allow-foreign", "--data", "people #2")
    assert "people #2" in message
