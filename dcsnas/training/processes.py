"""Data-parallel training: which process this is, and how Lightning joins several.

With ``run.devices`` > 1 Lightning runs the command again for every further device; torchrun starts
the processes itself, on one machine or several. A batch is shared out among all of them, so that a
configuration means the same however many there are. The first process alone writes files.
"""

import os
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import nn

from dcsnas.config.environment import started_by_torchrun
from dcsnas.config.errors import UserError
from dcsnas.config.stages import RunConfig
from dcsnas.nn.distributed import ALONE, Process, pick_device, span_processes
from dcsnas.training.process_failures import DataParallel


def this_process(run: RunConfig) -> Process:
    """Return which of the run's processes this is, before Lightning starts the others.

    Raises UserError where there are fewer devices than ``run.devices``, or torchrun has started
    another number of processes.
    """
    device = pick_device(run.device)
    if device.type == "cuda" and run.devices > torch.cuda.device_count():
        raise UserError(
            f"run.devices is {run.devices}, but torch finds {torch.cuda.device_count()} CUDA"
            " devices here; lower it, or set run.device to cpu"
        )
    if started_by_torchrun(os.environ):
        started = int(os.environ["LOCAL_WORLD_SIZE"])
        if started != run.devices:
            raise UserError(
                f"run.devices is {run.devices}, but torchrun started {started} processes on this"
                f" machine; set run.devices={started}, or start it with --nproc-per-node"
                f" {run.devices}; where torchrun did not start this, unset TORCHELASTIC_RUN_ID"
            )
        return Process(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if run.devices == 1:
        return ALONE
    return Process(int(os.environ.get("LOCAL_RANK", 0)), run.devices)


def leave_unless_first(process: Process) -> None:
    """End this process, successfully, unless it is the first: the rest of a stage is done once."""
    if not process.first:
        raise SystemExit(0)


def trainer_options(run: RunConfig, *, in_parts: bool) -> dict[str, Any]:
    """Return the arguments of a Lightning trainer that say on which devices, and how, it runs.

    ``in_parts`` says that there are steps which train only some of the parameters.
    """
    process = this_process(run)
    # stated, or Lightning takes a batch job of Slurm, LSF or MPI for a request of so many processes
    elastic = started_by_torchrun(os.environ)
    environment = TorchElasticEnvironment() if elastic else LightningEnvironment()
    options: dict[str, Any] = {
        "accelerator": "gpu" if pick_device(run.device).type == "cuda" else "cpu",
        "devices": run.devices,
        "num_nodes": process.world_size // run.devices,
        "use_distributed_sampler": False,  # ours share out batches themselves
        "plugins": [environment],
    }
    if process.world_size > 1:
        options["plugins"].append(SpanProcesses())
        # buffers are equal everywhere: all that goes into them is computed over the whole batch
        options["strategy"] = DataParallel(find_unused_parameters=in_parts, broadcast_buffers=False)
    return options


class SpanProcesses(LayerSync):
    """Lightning's place for synchronised BatchNorm: here for everything that is batch-wide."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Make ``model`` compute over the batch of all processes."""
        span_processes(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Make ``model`` compute over its own images again."""
        span_processes(model, across=False)
        return model
