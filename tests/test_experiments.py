"""Every shipped configuration is valid, and says at its head how to run it."""

from pathlib import Path

import pytest

from dcsnas.config.search import SearchConfig
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import load
from dcsnas.spaces.shipped import find_space, shipped_folder

MODELS = {"search": SearchConfig, "pretrain": PretrainConfig, "retrain": RetrainConfig}
FILES = sorted(shipped_folder("experiments").glob("*.yaml"))


def test_there_are_experiments() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_experiment_is_valid_and_says_how_to_run_it(path: Path) -> None:
    stage = path.name.split("_")[0]
    config = load(MODELS[stage], path)
    if isinstance(config, SearchConfig):
        find_space(config.space)
    head = path.read_text().split("\n\n")[0]
    assert "# Purpose: " in head
    assert f"dcsnas {stage} experiments/{path.name}" in head
    assert "# Hardware: " in head
