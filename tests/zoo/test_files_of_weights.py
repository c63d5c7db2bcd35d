"""Files of others: wrappings taken off, nothing in them executed, one message for each fault."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.zoo.weights import load_plain_state

WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state, "epoch": 3},
    "both": lambda state: {"model": {"state_dict": state}},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "parallel in state_dict": lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}},
    "beside numbers": lambda state: {**state, "epoch": 3, "best": 0.5},
    # torchreid's training writes the best Rank-1 as NumPy gave it
    "torchreid": lambda s: {"state_dict": s, "rank1": np.float64(0.9), "epoch": 60},
    "torchreid 32": lambda s: {"state_dict": s, "rank1": np.float32(0.9), "scheduler": None},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_are_taken_off(tmp_path: Path, wrapping: str) -> None:
    state = {"conv.weight": torch.randn(2, 3), "conv.bias": torch.randn(2)}
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "weights.pth.tar")
    found = load_plain_state(tmp_path / "weights.pth.tar")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_nothing_that_is_read_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hyper": Evil()}, path)
    with pytest.raises(UserError, match="reading it could run code; where you trust it, save"):
        load_plain_state(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="reading it could run code"):
        load_plain_state(path)
    objects = np.array([Evil()], dtype=object)
    torch.save({"state_dict": {"w": torch.zeros(1)}, "rank1": objects}, path)
    with pytest.raises(UserError, match="reading it could run code"):
        load_plain_state(path)
    assert not (tmp_path / "ran").exists()


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; give a"):
        load_plain_state(tmp_path / "absent.pth")
    path = tmp_path / "weights.pth"
    for content, held in (
        ({"epoch": 3, "net": {"w": torch.zeros(1)}}, "no tensors by name but the keys epoch, net"),
        ([torch.zeros(1)], "no tensors by name but a list"),
        ({}, "no tensors by name but a dict"),
    ):
        torch.save(content, path)
        with pytest.raises(UserError, match=held):
            load_plain_state(path)
    torch.save({"w": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for damaged in (b"", b"<html>", whole[: len(whole) // 2]):
        for name in ("weights.pth", "weights.safetensors"):
            (tmp_path / name).write_bytes(damaged)
            with pytest.raises(UserError, match=rf"{name}: .*(truncated|could run code)"):
                load_plain_state(tmp_path / name)
