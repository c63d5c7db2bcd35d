"""The search stage: a space, a latency table and a Re-ID set in, a run folder out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from nni.nas.evaluator.pytorch.lightning import Lightning, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.oneshot.pytorch.supermodule.differentiable import GumbelSoftmax
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning import LightningDataModule
from torch import nn

from dcsnas.config.files import write_json, write_yaml
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import SearchConfig
from dcsnas.data.loading import Loader
from dcsnas.data.reid import read_reid, samples_digest, split_train
from dcsnas.latency.expectation import expected_latency
from dcsnas.latency.opening import open_table
from dcsnas.latency.table import LatencyTable, save_table
from dcsnas.nn.device import pick_device
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.derive import read_probabilities
from dcsnas.search.recording import ProbabilityLog
from dcsnas.search.strategy import FBNetV2, FBNetV2Module
from dcsnas.search.supernet import Supernet, layer_weights
from dcsnas.search.task import SearchTask
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from dcsnas.training.fitting import make_trainer, resume_path, seed_everything
from dcsnas.training.inputs import pk_loader

SOFTMAX: dict[str, Callable[[], nn.Module]] = {
    "fbnetv2": GumbelSoftmax,
    "darts": partial(nn.Softmax, dim=-1),
}


@dataclass(frozen=True)
class SearchResult:
    """Expected latencies in milliseconds before and after, and where the supernet's weights lie."""

    initial_latency_ms: float
    final_latency_ms: float
    supernet: Path


class Split(LightningDataModule):
    """The two parts of the training images, as NNI takes them: train and val."""

    def __init__(self, weights: Loader, architecture: Loader) -> None:
        super().__init__()
        self.parts = weights, architecture

    def train_dataloader(self) -> Loader:
        """Return the weights' part."""
        return self.parts[0]

    def val_dataloader(self) -> Loader:
        """Return the architecture's part."""
        return self.parts[1]


def search(
    config: SearchConfig, folder: RunFolder, *, allow_foreign: bool = False, progress: bool = True
) -> SearchResult:
    """Search ``config.space``; continues a run that was stopped."""
    space = SearchSpace.load(find_space(config.space))
    size = config.input or space.size
    table = open_table(config.table, size, allow_foreign=allow_foreign)
    latency = expected_latency(space, size, table)
    data = read_reid(config.data.root)
    parts = split_train(data.train, fraction=config.split, seed=config.run.seed)
    loading = {"batch": config.batch, "workers": config.data.workers, "seed": config.run.seed}
    loaders = [pk_loader(part, size, **loading) for part in parts]
    pick_device(config.run.device)
    inputs = {"space": space.digest, "table": table.digest, "data": samples_digest(data.train)}
    folder.start("search", config, inputs)
    _copy_inputs(folder, space, table)

    seed_everything(config.run.seed)
    names = [[sample.path.name for sample in part] for part in parts]
    task = SearchTask(
        config,
        size=size,
        feature_dim=space.file.head.width,
        num_classes=data.num_identities,
        names={"weights": names[0], "architecture": names[1]},
    )
    strategy = FBNetV2(
        config=config.architecture,
        objective=config.objective,
        latency=latency,
        gradient_clip=config.run.gradient_clip,
        softmax=SOFTMAX[config.strategy],
    )
    trainer = make_trainer(
        config.run,
        folder,
        epochs=config.epochs,
        progress=progress,
        callbacks=[ProbabilityLog(folder.path / "probabilities.jsonl")],
        factory=Trainer,
    )
    resume = {"ckpt_path": resume_path(folder)}
    evaluator = Lightning(task, trainer, datamodule=Split(*loaders), fit_kwargs=resume)
    supernet: Any = Supernet(space)
    logging.getLogger("nni").setLevel(logging.CRITICAL)  # it repeats every error as its own
    strategy(RawFormatModelSpace(supernet, evaluator), SequentialExecutionEngine())
    module = strategy.oneshot_module
    assert isinstance(module, FBNetV2Module)
    return _finish(config, folder, space, module, data.num_identities)


def _copy_inputs(folder: RunFolder, space: SearchSpace, table: LatencyTable) -> None:
    """Keep space and table with the run: deriving needs nothing else."""
    write_yaml(folder.path / "space.yaml", space.file.model_dump(mode="json"))
    save_table(folder.path / "table.json", table.file)


def _finish(
    config: SearchConfig,
    folder: RunFolder,
    space: SearchSpace,
    module: FBNetV2Module,
    num_classes: int,
) -> SearchResult:
    weights = folder.path / "supernet.safetensors"
    header = header_of("search", space, config.data, config.input or space.size, num_classes)
    save_weights(weights, layer_weights(module.model), header)
    before = read_probabilities(folder.path)[0]
    tensors = {d.label: torch.tensor(before[d.label]) for d in space.decisions}
    initial = module.latency(tensors).item()
    final = module.expected_latency_ms().item()
    write_json(
        folder.path / "result.json",
        {"initial_latency_ms": initial, "final_latency_ms": final},
    )
    return SearchResult(initial, final, weights)
