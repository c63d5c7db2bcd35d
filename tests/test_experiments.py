"""Every shipped configuration is valid, and says at its head how to run it."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.detection import DetectConfig
from dcsnas.config.search import SearchConfig, search_model
from dcsnas.config.stages import RetrainConfig, train_model
from dcsnas.config.strict import load, load_with_overrides
from dcsnas.experiments.settings import read_sweep
from dcsnas.spaces.shipped import find_space, shipped_folder

MODELS: dict[str, Any] = {
    "search": search_model,
    "pretrain": partial(train_model, "pretrain"),
    "retrain": partial(train_model, "retrain"),
    "detect train": DetectConfig,
    "detect search": DetectConfig,
}
FILES = sorted(shipped_folder("experiments").glob("*.yaml"))


def test_there_are_experiments() -> None:
    assert len(FILES) >= 13


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_experiment_is_valid_and_says_how_to_run_it(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    assert "# Purpose: " in head
    assert "# Hardware: " in head
    stages = re.findall(rf"dcsnas ((?:detect )?\w+) experiments/{re.escape(path.name)}", head)
    assert len(stages) == 1
    config = load(MODELS[stages[0]], path)
    if isinstance(config, SearchConfig):
        find_space(config.space)


def steps_at(recipe: str) -> list[float]:
    """Return the epochs at which a recipe's learning rate falls, and at which its warm-up ends."""
    config = recipe_of(recipe)
    shares = [*config.optimizer.milestones, config.optimizer.warmup]
    return [round(share * config.epochs, 2) for share in shares]


def recipe_of(name: str) -> RetrainConfig:
    return load(RetrainConfig, shipped_folder("experiments") / f"{name}.yaml")


def test_recipes_are_those_of_their_sources() -> None:
    """DCS-Attention 2025, Section 4.2, and Bag of Tricks' softmax_triplet_with_center.yml."""
    fb, dnas, bot = map(recipe_of, ("dcs_fb_scratch", "dcs_dnas_finetune", "bag_of_tricks"))
    assert steps_at("dcs_fb_scratch") == [300, 500, 0]
    assert steps_at("dcs_dnas_finetune") == [200, 300, 0]
    assert steps_at("bag_of_tricks") == [40, 70, 10]
    assert [(r.optimizer.name, r.optimizer.lr) for r in (fb, dnas, bot)] == [
        *(("sgd", 0.035), ("adam", 3.5e-4), ("adam", 3.5e-4)),
    ]
    assert (fb.epochs, fb.optimizer.momentum) == (600, 0.9)
    assert (dnas.epochs, dnas.classifier_epochs) == (400, 10)
    assert dnas.augment.mixup > 0
    assert (bot.epochs, bot.loss.center, bot.loss.eta) == (120, 0.0005, 0.0)
    assert bot.augment.erase_value == "bot"
    for recipe in (fb, dnas, bot):
        assert recipe.batch.identities * recipe.batch.images == 64
        assert recipe.optimizer.weight_decay == 5e-4
        assert recipe.augment.erase == recipe.augment.flip == 0.5


RECIPES = ("dcs_fb_scratch", "dcs_dnas_finetune", "bag_of_tricks")


@pytest.mark.parametrize("name", RECIPES)
def test_short_recipe_differs_in_length_and_scale_alone(name: str) -> None:
    long, short = (recipe_of(n).model_dump() for n in (name, f"{name}_short"))
    changed = set(differences(long, short))
    scale = {"data.workers", "data.root", "run.threads", "epochs", "classifier_epochs", "input"}
    assert {"epochs", "augment.pad"} <= changed <= {*scale, "augment.pad", "optimizer.lr"}


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    if isinstance(first, dict):
        return [d for k in first for d in differences(first[k], second[k], f"{path}.{k}")]
    return [] if first == second else [path.removeprefix(".")]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_configuration_holds_for_any_number_of_epochs(path: Path, epochs: int) -> None:
    """Faults, wish 11: warm-ups are shares, so that ``--set epochs=1`` makes a smoke run."""
    (stage,) = set(
        re.findall(
            rf"dcsnas ((?:detect )?\w+) experiments/{re.escape(path.name)}", path.read_text()
        )
    )
    assert load_with_overrides(MODELS[stage], path, [f"epochs={epochs}"]).epochs == epochs


SWEEPS = sorted(shipped_folder("experiments").glob("nni/*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=[path.name for path in SWEEPS])
def test_a_sweep_holds_for_any_number_of_epochs(path: Path) -> None:
    assert read_sweep(path, overrides=["search.epochs=1"]).search.epochs == 1


def test_warm_ups_are_as_long_as_they_were_in_epochs() -> None:
    """The numbers of before they were shares: runs of then continue, bit for bit."""
    held = {"search_fbnetv2": 10, "search_fbnetv2_short": 2, "search_tiny": 4}
    for name, epochs in {**held, "search_classify_tiny": 3}.items():
        config = load(search_model, shipped_folder("experiments") / f"{name}.yaml")
        assert config.architecture.warmup_epochs == epochs
    assert recipe_of("dcs_dnas_finetune").classifier_epochs == 10
    assert recipe_of("dcs_dnas_finetune_short").classifier_epochs == 1
    of_search = shipped_folder("experiments") / "nni"
    for path in of_search.glob("*_tiny.yaml"):
        assert read_sweep(path).search.architecture.warmup_epochs == 2
