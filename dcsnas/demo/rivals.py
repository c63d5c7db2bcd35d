"""Training several networks by one recipe, side by side: a process and a core each."""

import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import read_json
from dcsnas.config.overrides import load_with_overrides
from dcsnas.config.quiet import quiet_libraries
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.evaluate import evaluate, save_evaluation
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.shipped import find_experiment
from dcsnas.training.pretrain import pretrain
from dcsnas.training.retrain import retrain


@dataclass(frozen=True)
class Rival:
    """A network to train, and its measured latency for the record."""

    name: str
    architecture: ArchitectureFile
    latency: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What every rival is trained by, in ``root``, on its ``people`` and ``classes``."""

    root: Path
    seed: int

    def config(self, model: Any, name: str, data: str) -> Any:
        """Return the shipped configuration ``name`` on one of the data sets."""
        overrides = [f"data.root={json.dumps(str(self.root / data))}", f"run.seed={self.seed}"]
        return load_with_overrides(model, find_experiment(name), overrides)

    @property
    def pretrain(self) -> PretrainConfig:
        """Pretraining on garments."""
        return self.config(PretrainConfig, "pretrain_tiny", "classes")

    @property
    def retrain(self) -> RetrainConfig:
        """Re-identification of people."""
        return self.config(RetrainConfig, "retrain_tiny", "people")


def train_side_by_side(
    recipe: Recipe, rivals: list[Rival], *, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Return the metrics of every rival; ``progress`` hears of epochs done and wanted."""
    epochs = recipe.pretrain.epochs + recipe.retrain.epochs
    logs = [
        recipe.root / rival.name / stage / "metrics.jsonl"
        for rival in rivals
        for stage in ("pretrain", "retrain")
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(rivals), mp_context=context) as pool:
        futures: list[Future] = [pool.submit(train_one, recipe, rival) for rival in rivals]
        while wait(futures, timeout=1).not_done:
            done = sum(len(log.read_text().splitlines()) for log in logs if log.exists())
            progress(done, epochs * len(rivals))
        return [future.result() for future in futures]


def train_one(recipe: Recipe, rival: Rival) -> dict[str, Any]:
    """Pretrain, retrain and evaluate a rival; what is finished is not repeated."""
    quiet_libraries()
    folder = recipe.root / rival.name
    metrics = folder / "retrain" / "metrics.json"
    if not metrics.exists():
        network = rival.architecture
        first = pretrain(recipe.pretrain, network, RunFolder(folder / "pretrain"), progress=False)
        trained = retrain(
            recipe.retrain,
            network,
            RunFolder(folder / "retrain"),
            start=first.weights,
            progress=False,
        )
        people = recipe.root / "people"
        result = evaluate(trained.weights, read_reid(people), workers=0)
        save_evaluation(metrics, result, people, rival.latency)
    return read_json(metrics)
