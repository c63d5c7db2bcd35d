"""Stages on small data as a program of its own, which Lightning can run again for each process.

``python tests/distributed_worker.py STAGE FOLDER NAME CHANGES EPOCH RANK``, CHANGES in JSON. Every
process leaves its module's last state in ``FOLDER/NAME.rank<N>.pt``. At the end of EPOCH, before
its checkpoint, all processes are interrupted, or the one of RANK fails; -1 and null are never.
"""

import dcsnas  # noqa: F401, I001  # first: it lets Lightning import beside any torchvision

import json
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.runs import RunFolder
from dcsnas.losses.metric import batch_hard_triplet
from dcsnas.nn.distributed import gather, span_processes
from dcsnas.nn.heads import BNNeck
from dcsnas.nn.layers import ConvNormAct
from dcsnas.training.trainer import LastCheckpoint


def plain_augmentation() -> dict[str, float]:
    """Return an augmentation that changes nothing: processes draw it differently."""
    return {"pad": 0, "flip": 0.0, "erase": 0.0}


def run_stage(stage: str, folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Run ``stage`` on the inputs in ``folder``, on the devices that ``changes`` say."""
    out = RunFolder(folder / name)
    if stage == "search":
        from dcsnas.search.run import search
        from search_setup import small_search

        search(small_search(folder, **changes), out, allow_foreign=True, progress=False)
        return
    from dcsnas.config.stages import train_model
    from dcsnas.config.strict import validate
    from dcsnas.spaces.architecture import load_architecture
    from dcsnas.training.train import train

    architecture = load_architecture(folder / "architecture.yaml")
    config = validate(train_model(stage, changes), changes, "test")
    kind: Any = stage
    train(config, architecture, out, stage=kind, progress=False)


def keep_last_state(folder: Path, name: str) -> None:
    """Have every trainer of this process save its module's state at the end of a fit."""
    fit = pl.Trainer.fit

    def fit_and_keep(
        self: pl.Trainer, model: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        fit(self, model, *args, **kwargs)
        torch.save(model.state_dict(), folder / f"{name}.rank{self.global_rank}.pt")

    pl.Trainer.fit = fit_and_keep  # type: ignore[method-assign]


def interrupt(epoch: int, failing_rank: int | None) -> None:
    """Stop before the checkpoint of ``epoch``: all processes, or fail on one of them."""
    write = LastCheckpoint.on_train_epoch_end

    def write_or_stop(self: Any, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == epoch:
            if failing_rank is None:
                raise KeyboardInterrupt
            if trainer.global_rank == failing_rank:
                raise RuntimeError(f"process {failing_rank} fails")
        write(self, trainer, pl_module)

    LastCheckpoint.on_train_epoch_end = write_or_stop


def small_network() -> nn.Module:
    """Return a convolution with a masked BatchNorm and a neck, the same in every process."""
    torch.manual_seed(1)
    conv = ConvNormAct(3, 4, kernel=3, stride=1, activation="hard_swish")
    return nn.ModuleDict({"conv": conv, "neck": BNNeck(4, 4)}).double()


def gradients(rank: int, world_size: int, folder: Path) -> dict[str, Tensor]:
    """Return gradients and buffers of a network for a loss of the batch in ``folder``."""
    batch = torch.load(folder / "batch", weights_only=True)
    images, labels = (batch[key].chunk(world_size)[rank] for key in ("images", "labels"))
    network: Any = small_network()
    span_processes(network, across=world_size > 1)
    mask = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=torch.float64)
    features = network["conv"](images, mask).mean((2, 3)) + network["conv"](images).amax((2, 3))
    logits = network["neck"](features)
    if world_size > 1:
        features, logits, labels = gather(features), gather(logits), gather(labels)
    loss = batch_hard_triplet(features, labels, margin=None) + F.cross_entropy(logits, labels)
    loss.backward()
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    for grad in found.values() if world_size > 1 else ():
        dist.all_reduce(grad)
        grad /= world_size
    return {**found, **dict(network.named_buffers())}


def save_gradients(rank: int, world_size: int, folder: Path) -> None:
    """Save ``gradients`` of one of several processes."""
    torch.set_num_threads(1)
    where = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=world_size)
    torch.save(gradients(rank, world_size, folder), folder / f"gradients{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    quiet_libraries()
    stage, folder, name, changes, epoch, failing = sys.argv[1:]
    keep_last_state(Path(folder), name)
    interrupt(int(epoch), json.loads(failing))
    run_stage(stage, Path(folder), name, json.loads(changes))
