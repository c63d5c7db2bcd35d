"""Training several networks by one recipe, side by side: a process and a core each."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.plugins import new_processes
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.record import save_report
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.shipped import find_experiment
from dcsnas.tasks.task import evaluate
from dcsnas.training.train import train

EPOCHS = {"search_tiny": 14, "pretrain_tiny": 3, "retrain_tiny": 16}
"""Fewer than in the shipped configurations, so that two slow cores are done in minutes."""


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
    quick: bool = False
    """Whether two epochs do, of which the search's first trains weights alone."""

    def config(self, model: Any, name: str, data: str) -> Any:
        """Return the shipped configuration ``name`` on one of the data sets."""
        epochs = 2 if self.quick else EPOCHS[name]
        overrides = [
            f"data.root={json.dumps(str(self.root / data))}",
            f"run.seed={self.seed}",
            f"epochs={epochs}",
        ]
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
    with new_processes(len(rivals)) as pool:
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
        network, run = rival.architecture, RunFolder(folder / "pretrain")
        first = train(recipe.pretrain, network, run, stage="pretrain", progress=False).weights
        run = RunFolder(folder / "retrain")
        done = train(recipe.retrain, network, run, stage="retrain", start=first, progress=False)
        result = evaluate(done.weights, read_reid(recipe.root / "people"), workers=0)
        save_report(metrics, result, rival.latency)
    return read_json(metrics)


STRIPES = 6


def histogram_features(paths: Sequence[Path], *, bins: int = 4) -> np.ndarray:
    """Return one feature per picture, shape (pictures, STRIPES * bins**3), float32, of length 1.

    Each colour channel is equalised over the picture, which removes a camera's gain, contrast and
    gamma; then each of STRIPES horizontal stripes gives a joint RGB histogram with ``bins`` per
    channel. The square root makes the scalar product of two features the mean Bhattacharyya
    coefficient of their stripes. Raises UserError where a picture cannot be read, has fewer rows
    than stripes, or ``bins`` is not 1 to 32.
    """
    if not 1 <= bins <= 32:
        raise UserError(f"bins: {bins} given; allowed: 1 to 32")
    features = np.empty((len(paths), STRIPES * bins**3), dtype=np.float32)
    for row, path in enumerate(paths):
        pixels = np.asarray(ImageOps.equalize(_picture(path)), dtype=np.int64)
        levels = pixels * bins // 256
        codes = (levels[:, :, 0] * bins + levels[:, :, 1]) * bins + levels[:, :, 2]
        shares = [
            np.bincount(stripe.ravel(), minlength=bins**3) / stripe.size
            for stripe in np.array_split(codes, STRIPES)
        ]
        features[row] = np.sqrt(np.concatenate(shares) / STRIPES)
    return features


def _picture(path: Path) -> Image.Image:
    picture = decode_rgb(path)
    if picture.height < STRIPES:
        raise UserError(f"{path}: {picture.height} rows of pixels; at least {STRIPES} are needed")
    return picture
