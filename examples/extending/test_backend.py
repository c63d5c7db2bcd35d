"""The backend that counts, through ``dcsnas profile`` and ``dcsnas profile-check``."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dcsnas.config.files import read_json
from dcsnas.latency.table import Entry, load_table, predict_ms
from dcsnas.spaces.network import walk
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import space_operators
from latency_fakes import micro_space

SPACE = micro_space()
PLUGIN = ("--plugin", "examples.extending.backend")
ENTRY_MS, MS_PER_MAC = 0.05, 1e-6


def test_a_table_of_counts_is_exact(dcsnas: Callable[..., str]) -> None:
    Path("micro.yaml").write_text(yaml.safe_dump(SPACE.file.model_dump(mode="json")))
    shown = dcsnas(*PLUGIN, "profile", "--help")
    assert "counting" in shown
    measured = ("--rounds", "2", "--out", "table.json")
    shown = dcsnas(*PLUGIN, "profile", "micro.yaml", "--backend", "counting", *measured)
    assert "counting on " in shown
    assert "quiet: speed changed by 0 %" in shown

    table = load_table(Path("table.json"), expected=None)
    for key, operator in space_operators(SPACE, SPACE.size).items():
        entry = table.file.entries[key]
        assert isinstance(entry, Entry)
        assert entry.p10 == entry.p90 == pytest.approx(ENTRY_MS + MS_PER_MAC * operator.cost.macs)
    rng = random.Random(0)
    for network in (SPACE.architecture(sample_choice(SPACE, rng)) for _ in range(5)):
        counted = ENTRY_MS + MS_PER_MAC * network.cost(SPACE.size).macs
        assert predict_ms(table, network.layers, SPACE.size) == pytest.approx(counted)
        sums = sum(map(table.entry_ms, walk(network.layers, SPACE.size)))
        assert sums == pytest.approx(counted + (len(network.layers) - 1) * ENTRY_MS)

    shown = dcsnas(*PLUGIN, "profile-check", "table.json", "--networks", "4", "--rounds", "2")
    assert "the reference takes 0.0 % less time" in shown
    check = read_json(Path("table.check.json"))
    assert check["all"]["table"]["worst_percent"] == pytest.approx(0, abs=1e-6)
    assert check["all"]["uncalibrated"]["bias_percent"] > 100
    assert check["all"]["noise_floor"]["mape_percent"] == 0
