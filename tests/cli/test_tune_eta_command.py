"""``dcsnas tune-eta`` for real: the printed table, the files, continuing, and its mistakes."""

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

ARGUMENTS = ("tune-eta", "retrain.yaml", "--arch", "arch.yaml")
TWO = ("--eta", "50", "--eta", "0", "--folds", "2")

Command = Callable[..., str]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, an architecture and a configuration."""
    folder, space = tmp_path_factory.mktemp("tune_eta"), micro_space()
    write_reid_set(folder / "people", identities=12, images=6)
    found = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    save_architecture(folder / "arch.yaml", found)
    content = {
        "data": {"root": "people", "workers": 0},
        "epochs": 5,
        "optimizer": {"name": "adam", "lr": 0.003},
        "batch": {"identities": 2, "images": 2},
        "augment": {"pad": 1},
        "loss": {"eta_warmup": 0.0, "ib_size": [4, 2]},
        "run": {"threads": 1, "device": "cpu"},
    }
    (folder / "retrain.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def command(inputs: Path, dcsnas_in: Callable[..., Command]) -> Command:
    """Return a function that runs ``dcsnas tune-eta`` and gives what it printed."""
    return dcsnas_in(inputs, *ARGUMENTS)


def test_a_tuning_prints_what_its_files_hold_and_is_read_when_called_again(
    command: Command, inputs: Path
) -> None:
    printed = command(*TWO, "--out", "tuned")
    with (inputs / "tuned" / "eta.csv").open() as file:
        rows = list(csv.DictReader(file))
    maps = {
        eta: [float(row["map"]) for row in rows if float(row["eta"]) == eta] for eta in (0.0, 50.0)
    }
    assert [len(values) for values in maps.values()] == [2, 2]
    lines = [line.split() for line in printed.splitlines()]
    mean, sd = statistics.fmean(maps[50]), statistics.stdev(maps[50])
    (row,) = (line for line in lines if line[:1] == ["50"])
    assert len({row["ib_loss"] for row in rows}) == 4, "eta has an effect"
    gains = [b - a for a, b in zip(*maps.values(), strict=True)]
    assert row[1:3] == [f"{mean:.2f}", f"{sd:.2f}"]
    assert row[3:6] == [
        f"{statistics.fmean(gains):+.2f}", "\u00b1", f"{statistics.stdev(gains) / 2**0.5:.2f}"
    ]  # fmt: skip
    record = json.loads((inputs / "tuned" / "eta.json").read_text())
    assert record["conclusion"] in printed
    best = max(maps, key=lambda eta: (statistics.fmean(maps[eta]), -eta))
    assert record["chosen"] == best
    assert printed.endswith(
        f"next: dcsnas retrain retrain.yaml --arch arch.yaml --set loss.eta={best:g}\n"
    )
    assert "run 4 of 4: fold 2, eta 50" in printed
    with Image.open(inputs / "tuned" / "eta.png") as image:
        assert min(image.size) > 400

    again = command(*TWO, "--out", "tuned")
    assert again.startswith("4 of 4 runs are finished already\n")
    table = printed.index("eta  ")
    assert again[again.index("eta  ") :] == printed[table:]

    refused = command(*TWO, "--out", "tuned", "--eta", "1", code=2)
    assert "tuned: holds a run with another configuration" in refused
    assert "etas: there [0.0, 50.0], now [0.0, 1.0, 50.0]" in refused


def test_a_dry_run_prints_configuration_and_plan(command: Command, inputs: Path) -> None:
    before = sorted(inputs.rglob("*"))
    shown = command("--dry-run", "--folds", "4", "--set", "etas=[0, 0.1, 1e-2]")
    resolved = yaml.safe_load(shown)
    assert resolved["etas"] == [0, 0.01, 0.1]
    assert (resolved["folds"], resolved["epochs"]) == (4, 5)
    assert "# 3 etas x 4 folds: 12 runs of 5 epochs\n" in shown
    fold = "# fold 1: 9 identities train (54 images), 3 are held out (6 queries)\n"
    assert fold in shown
    assert yaml.safe_load(command("--dry-run", "--folds", "2"))["etas"] == [
        *(0, 0.01, 0.03, 0.1, 0.3, 1),
    ]
    assert sorted(inputs.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("--folds", "7"),
            "7 folds need at least 14 training identities, 2 each, and there are 12",
        ),
        (("--share", "0.2", "--folds", "2"), "there are 2 (0.2 of 12)"),
        (("--eta", "0.1"), "etas: 1 value leaves nothing to choose; give at least two"),
        (("--eta", "0", "--eta", "-1"), "etas[1]: Input should be greater than or equal to 0"),
        (("--eta", "0", "--eta", "inf"), "etas[1]: Input should be a finite number"),
        (("--share", "2"), "share: Input should be less than or equal to 1 (given: 2.0)"),
        (("--set", "epochs=1"), "epochs is 1, but the bound has an effect from epoch 2 on"),
        (("--set", "batch.identities=7", "--folds", "2"), "batch.identities is 7, but 6 "),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(
    command: Command, inputs: Path, arguments: tuple[str, ...], expected: str
) -> None:
    before = sorted(inputs.rglob("*"))
    message = command(*arguments, "--out", "new", code=2)
    assert message.startswith("error: ")
    assert expected in message
    assert sorted(inputs.rglob("*")) == before
