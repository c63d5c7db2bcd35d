"""Which of several processes this is, and what they draw alike and differently."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.stages import RunConfig
from dcsnas.training.processes import ALONE, Process, this_process
from dcsnas.training.trainer import SHARED_STREAM, EpochSeed, epoch_seed


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
    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    assert this_process(two) == Process(3, 4)
    with pytest.raises(UserError) as caught:
        this_process(RunConfig(device="cpu", devices=4))
    assert str(caught.value) == (
        "run.devices is 4, but torchrun started 2 processes on this machine; set run.devices=2, or"
        " start it with --nproc-per-node 4"
    )
