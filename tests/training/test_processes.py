"""Which of several processes this is, and what they draw alike and differently."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from dcsnas.config.errors import UserError
from dcsnas.config.stages import RunConfig
from dcsnas.training.processes import ALONE, Process, this_process, trainer_options
from dcsnas.training.trainer import SHARED_STREAM, EpochSeed, epoch_seed
from hostile_environments import HOSTILE


def test_processes_draw_differently_and_share_what_they_must() -> None:
    drawn = {}
    for rank in (0, 1):
        for epoch in (0, 1):
            trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
            EpochSeed(5).on_train_epoch_start(trainer, pl.LightningModule())
            drawn[rank, epoch] = torch.rand(4)
    generator = torch.Generator().manual_seed(epoch_seed(5, 0, SHARED_STREAM))
    drawn["shared"] = torch.rand(4, generator=generator)
    for first, second in combinations(drawn.values(), 2):
        assert not torch.equal(first, second)
    # one process draws what it always did
    torch.manual_seed(5 * 1_000_003)
    assert torch.equal(drawn[0, 0], torch.rand(4))


@pytest.mark.parametrize("name", ["Slurm", "torchrun"])
def test_what_a_batch_system_says_makes_no_processes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 7, and what torchrun leaves in a shell; in Python, where nothing is cleared away."""
    for variable, value in HOSTILE[name].variables.items():
        monkeypatch.setenv(variable, value)
    run = RunConfig(device="cpu")
    assert this_process(run) == ALONE
    trainer = pl.Trainer(**trainer_options(run, in_parts=False), logger=False)
    assert (trainer.world_size, trainer.global_rank) == (1, 0)
    # Slurm's would ask for the job to be queued again on SIGUSR1
    connector = trainer._accelerator_connector
    assert type(connector.cluster_environment) is LightningEnvironment


def test_processes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    two = RunConfig(device="cpu", devices=2)
    assert this_process(RunConfig(device="cpu")) == ALONE
    assert this_process(two) == Process(0, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert this_process(two) == Process(1, 2)
    # two machines with two processes each
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "WORLD_SIZE": "4"}
    torchrun |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert this_process(two) == Process(3, 4)
    with pytest.raises(UserError) as caught:
        this_process(RunConfig(device="cpu", devices=4))
    assert str(caught.value) == (
        "run.devices is 4, but torchrun started 2 processes on this machine; set run.devices=2, or"
        " start it with --nproc-per-node 4; where torchrun did not start this, unset"
        " TORCHELASTIC_RUN_ID"
    )
