"""Searches and commands whose cost is peak memory, on drawn people and the space ``tiny``."""

import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.text import Text

from dcsnas.cli.main import run as run_command
from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.latency.table import save_table
from dcsnas.plots.search_curves import plot_search_curves
from dcsnas.search.derive import budget_line, derive, derive_ranked
from dcsnas.search.peak_band import peak_range
from dcsnas.search.random_search import random_choice_of_memory
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture
from dcsnas.spaces.space import load_space
from latency_fakes import CONDITIONS, fake_table
from reid_data import write_reid_set
from search_setup import small_search

TINY, SIZE = load_space("tiny"), CONDITIONS.input
LOW, HIGH = peak_range(TINY, SIZE)
TARGET = round(LOW + 0.4 * (HIGH - LOW), 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``tiny``, its table at the size of the images, and a data set."""
    root = tmp_path_factory.mktemp("memory")
    write_reid_set(root / "data")
    save_table(root / "table.json", fake_table(TINY).file)
    (root / "space.yaml").write_text(yaml.safe_dump(TINY.file.model_dump(mode="json")))
    return root


def searched(folder: Path, name: str, **changes: Any) -> Path:
    settings = {
        "input": list(SIZE),
        "epochs": 40,
        "architecture": {"lr": 0.05, "warmup_epochs": 1, "weight_decay": 0.0},
        "objective": {"form": "target", "cost": "memory", "target": TARGET},
        **changes,
    }
    search(small_search(folder, **settings), RunFolder(folder / name), allow_foreign=True,
           progress=False)  # fmt: skip
    return folder / name


def mb(found: ArchitectureFile) -> float:
    assert found.memory_bytes is not None
    return found.memory_bytes / 1e6


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
    """Return a search for a target of memory."""
    return searched(folder, "done")


def test_a_search_ends_at_its_target(done: Path) -> None:
    """39 architecture steps."""
    last = read_records(done / "metrics.jsonl")[-1]
    assert last["expected_memory_mb"] == pytest.approx(TARGET, rel=0.02)
    assert last["multiplier"] != 0
    assert "expected_latency_ms" in last


def test_derive_keeps_to_it_and_uses_it(done: Path) -> None:
    found = derive(done)
    assert found.provenance.target_memory_mb == TARGET
    assert found.memory_bytes == found.network.memory(SIZE)
    peak = mb(found)
    line = budget_line([found], 2.0)
    assert line.startswith(f"{peak:.3f} of {TARGET:g} MB, {100 * peak / TARGET:.1f} %")
    within = 0.98 * TARGET <= peak <= TARGET
    assert within != line.endswith("no network was found within 2 % below the target")
    assert peak <= TARGET
    wide, near = (
        one.provenance.log10_probability for one in (derive(done, within_percent=100), found)
    )
    assert wide is not None
    assert near is not None
    assert wide >= near


def test_a_limit_of_latency_beside_it(done: Path) -> None:
    free = derive(done).provenance.predicted_latency_ms
    assert free
    ranked = derive_ranked(done, count=20, target_ms=free, target_memory_mb=0.7 * TARGET)
    assert len(ranked) == 20
    for found in ranked:
        assert mb(found) <= 0.7 * TARGET
        assert (found.provenance.predicted_latency_ms or math.inf) <= free
        assert found.provenance.target_ms == free


def test_limits_that_no_network_keeps_to(done: Path) -> None:
    message = rf"target 0\.001 MB: tiny has \S+ to {HIGH:.5g} MB of peak memory \(for one image"
    for latency in (None, 5.0):
        with pytest.raises(UserError, match=message) as caught:
            derive(done, target_ms=latency, target_memory_mb=0.001)
    least = float(re.findall(r"has (\S+) to", str(caught.value))[0])
    assert mb(derive(done, target_memory_mb=least)) <= least
    with pytest.raises(UserError, match="--target-memory -1: expected MB of peak memory"):
        derive(done, target_memory_mb=-1.0)


def test_targets_out_of_reach_are_refused_before_the_search(folder: Path) -> None:
    for target in (0.5 * LOW, 2.4e6):  # the second in bytes
        with pytest.raises(UserError, match=r"MB of peak memory .*; give a target in that range"):
            searched(folder, "refused", objective={"form": "target", "cost": "memory",
                                                   "target": target})  # fmt: skip
    assert not (folder / "refused").exists()


def test_random_search_scores_networks_at_the_target(folder: Path) -> None:
    target = 0.0146  # peaks have few values: 0.014592 is one
    drawn = random_choice_of_memory(TINY, SIZE, target, random.Random(0))
    assert TINY.architecture(drawn).memory(SIZE) == 14592
    objective = {"form": "target", "cost": "memory", "target": target}
    found = derive(searched(folder, "random", strategy="random", epochs=3, objective=objective))
    assert found.memory_bytes == 14592
    assert found.provenance.target_memory_mb is None
    message = (
        r"found within 1% of 0\.0155 MB; the nearest is .* take another target, such as its 0\."
    )
    with pytest.raises(UserError, match=message):
        random_choice_of_memory(TINY, SIZE, 0.0155, random.Random(0))


def test_the_curves_show_it(done: Path) -> None:
    found: Any = plot_search_curves(done).findobj(Text)
    texts = [text.get_text() for text in found]
    assert "expected peak memory" in texts
    assert any(text.startswith("target ") for text in texts)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    try:
        run_command()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_commands(
    done: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "derived.yaml"
    limit = f"{0.6 * TARGET:.5f}"
    assert command(monkeypatch, "derive", str(done), "--target-memory", limit, "--out",
                   str(path)) == 0  # fmt: skip
    found = load_architecture(path)
    assert (found.memory_bytes or 0) <= 1e6 * float(limit)
    shown = capsys.readouterr().out
    assert f"{(found.memory_bytes or 0) / 1e6:.3f} MB peak memory for one image" in shown
    assert f" of {float(limit):g} MB, " in shown

    drawn = tmp_path / "drawn.yaml"
    given = ("sample", "tiny", "--target-memory", "0.2625", "--out")
    assert command(monkeypatch, *given, str(drawn)) == 0
    found = load_architecture(drawn)
    assert found.memory_bytes == 262_144
    assert found.provenance.target_memory_mb == 0.2625
    capsys.readouterr()
    other = str(tmp_path / "other.yaml")
    assert command(monkeypatch, *given, other, "--which", "largest") == 2
    assert "--target-memory: is of random options" in capsys.readouterr().err
    assert command(monkeypatch, "sample", "tiny", "--target-memory", "0.1", "--out", other) == 2
    assert "give a target in that range" in capsys.readouterr().err
    assert not Path(other).exists()


def test_a_backbone_whose_choices_leave_the_peak_alone() -> None:
    from dcsnas.config.search import TargetConfig
    from dcsnas.search.cost_terms import refuse_unreachable

    space = load_space("resnet18", ["none", "sa"])
    config = TargetConfig(cost="memory", target=3.0)
    table: Any = None  # no table is asked
    with pytest.raises(UserError, match=r"MB of peak memory .*, whatever is chosen; take another"):
        refuse_unreachable(config, space, (64, 32), table)
