"""``dcsnas ablate`` for real: what it prints and writes, its picture, and its mistakes."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from latency_fakes import micro_space
from reid_data import write_reid_set

Command = Callable[..., str]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a space and an ablation."""
    folder = tmp_path_factory.mktemp("ablate")
    write_reid_set(folder / "people", identities=6, images=4)
    (folder / "micro.yaml").write_text(yaml.safe_dump(micro_space().file.model_dump(mode="json")))
    variants = {
        "plain": {"network": "micro.yaml", "attention": "none"},
        "dcs": {"network": "micro.yaml", "attention": "dcs"},
    }
    recipe = {
        "data": {"root": "nowhere", "workers": 0},
        "epochs": 1,
        "batch": {"identities": 2, "images": 2},
        "loss": {"ib_size": [4, 2]},
        "run": {"threads": 1, "device": "cpu"},
    }
    content = {"recipe": recipe, "timed_rounds": 2, "seeds": [3, 4], "variants": variants}
    (folder / "kinds.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@pytest.fixture
def command(inputs: Path, dcsnas_in: Callable[..., Command]) -> Command:
    """Return a function that runs ``dcsnas`` and gives what it printed."""
    return dcsnas_in(inputs)


def test_an_ablation_prints_the_table_that_it_writes(command: Command, inputs: Path) -> None:
    before = sorted(inputs.rglob("*"))
    planned = command("ablate", "kinds.yaml", "--dry-run", "--set", "recipe.epochs=2")
    assert yaml.safe_load(planned)["recipe"]["epochs"] == 2
    assert "# plain: 0.002 M parameters, 0.0000 GMACs\n" in planned
    assert planned.endswith("# 4 runs of 2 epochs\n")
    assert sorted(inputs.rglob("*")) == before

    printed = command("ablate", "kinds.yaml", "--data", "people", "--out", "kinds")
    with (inputs / "kinds/table.csv").open() as file:
        plain, dcs = csv.DictReader(file)
    (row,) = (line.split() for line in printed.splitlines() if line.startswith("dcs  "))
    mean, sd = float(dcs["map_mean"]), float(dcs["map_sd"])
    gain, se = float(dcs["difference"]), float(dcs["difference_se"])
    assert row[3:6] == ["2", f"{mean:.2f}", f"({sd:.2f})"]
    assert row[6:10] == [f"{gain:+.2f}", "\u00b1", f"{se:.2f}", "(plain)"]
    assert gain == pytest.approx(mean - float(plain["map_mean"]))
    assert f"dcs against plain: {gain:+.2f} \u00b1 {se:.2f} points of mAP, 2 pairs" in printed
    with Image.open(inputs / "kinds/ablation.png") as image:
        assert min(image.size) > 200
    assert command("plot", "kinds").split() == [
        "kinds/plots/ablation.png", "kinds/plots/ablation.svg"
    ]  # fmt: skip
    again = command("ablate", "kinds.yaml", "--data", "people", "--out", "kinds")
    assert "4 of 4 runs are finished already\n" in again
    assert again.endswith(printed[printed.index("variant ") :])

    refused = command(
        "ablate", "kinds.yaml", "--data", "people", "--out", "kinds", "--set", "recipe.epochs=2",
        code=2,
    )  # fmt: skip
    assert "kinds: holds a run with another configuration:\n  epochs: there 1, now 2" in refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table5",), "no ablation called 'table5'; shipped: attention_lpc"),
        (("none.yaml",), "none.yaml: no such file"),
        (("kinds.yaml",), "nowhere: no such folder"),
        (("kinds.yaml", "--set", "recipe.epoch=3"), "--set recipe.epoch=3: recipe.epoch: unknown"),
        (("kinds.yaml", "--set", "seed=3"), "seed: unknown key; did you mean 'seeds'"),
        (("kinds.yaml", "--data", "people", "--set", "recipe.batch.identities=9"),
         "batch.identities is 9"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_message(
    command: Command, inputs: Path, arguments: tuple[str, ...], message: str
) -> None:
    printed = command("ablate", *arguments, "--out", "refused", code=2)
    assert message in printed
    assert not (inputs / "refused").exists()
