"""A retraining with scores and averaged weights that is killed anywhere ends the same.

Real processes, real SIGKILL. An epoch has six steps, a checkpoint lies after every second of them,
and of the epochs 0 to 4, the second, the fourth and the last are scored.
"""

import signal
from pathlib import Path

import pytest
import yaml

from dcsnas.config.jsonl import read_records
from dcsnas.nn.weights import read_header
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from killed_search import Clock, Ended, Fault, command, die, die_after, die_half_written
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

SPACE = micro_space()
CONFIG = {
    "data": {"root": "people", "workers": 2},
    "epochs": 5,
    "classifier_epochs": 1,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1, "mixup": 0.5, "erase_value": "bot"},
    "loss": {
        "ib_size": [4, 2],
        "ib_temperature": 1.0,
        "eta": 0.5,
        "eta_warmup": 0.0,
        "center": 0.01,
    },
    # a rate at which the score rises and falls
    "optimizer": {"name": "sgd", "lr": 0.3, "schedule": "constant", "weight_decay": 0.0},
    "ema": 0.5,
    "validation": {"every": 2, "hold_out": 0.3333},
    "run": {"checkpoint_minutes": 2, "seed": 1},
}
CLOCK = Clock("dcsnas.training.checkpoint:monotonic")
SCORE = "dcsnas.training.best_epoch:Score.__call__"
STEP = "dcsnas.training.module:TaskModule.training_step"
METRICS_LINE = "dcsnas.training.trainer:append_record"
CHECKPOINT_BYTES = "pathlib:Path.write_bytes"
SAVE_WEIGHTS = "dcsnas.training.train:save_weights"

FAULTS = {
    "while an epoch is scored": Fault(SCORE, 2, die),
    "after a score": Fault(METRICS_LINE, 4, die),
    "while a scored epoch's checkpoint is written": Fault(CHECKPOINT_BYTES, 6, die_half_written),
    "within the epoch after a score": Fault(STEP, 2 * 6 + 4, die),
    "after the last epoch": Fault(SAVE_WEIGHTS, 1, die),
    "while the weights are written": Fault(CHECKPOINT_BYTES, 16, die_half_written),
    "after the weights": Fault(SAVE_WEIGHTS, 1, die_after),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an architecture, a data set and a configuration."""
    folder = tmp_path_factory.mktemp("killed_outcome")
    write_reid_set(folder / "people", identities=12, images=6)
    file = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
    save_architecture(folder / "architecture.yaml", file)
    (folder / "retrain.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def retrain(folder: Path, out: str, *changes: Fault) -> Ended:
    arguments = ["retrain", "retrain.yaml", "--arch", "architecture.yaml", "--out", out]
    return command(folder, arguments, CLOCK, *changes)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """Return the folder of the uninterrupted run."""
    ended = retrain(folder, "whole")
    assert ended.code == 0, ended.output
    return folder / "whole"


def test_case_has_a_best_epoch_before_the_last(whole: Path) -> None:
    """Else the runs below would not show that weights survive the epochs after theirs."""
    scores = [record.get("validation/map") for record in read_records(whole / "metrics.jsonl")]
    assert [score is not None for score in scores] == [False, True, False, True, True]
    chosen = read_header(whole / "model.safetensors").chosen_epoch
    assert chosen is not None
    assert chosen.after_epochs < 5
    assert (
        chosen.score == scores[chosen.after_epochs - 1] == max(score for score in scores if score)
    )


# one of before, within and after the rest of the epochs
QUICK = ("after a score", "within the epoch after a score", "while the weights are written")


@pytest.mark.parametrize(
    "when", [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in FAULTS]
)
def test_retraining_killed(folder: Path, whole: Path, when: str) -> None:
    out = when.replace(" ", "_").replace("'", "")
    killed = retrain(folder, out, FAULTS[when])
    assert killed.code == -signal.SIGKILL, killed.output
    assert (folder / out / "model.safetensors").exists() == (when == "after the weights")
    ended = retrain(folder, out)
    assert ended.code == 0, ended.output
    assert {p.name for p in (folder / out).iterdir()} == {p.name for p in whole.iterdir()}
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (folder / out / name).read_bytes() == (whole / name).read_bytes(), name
