"""Weights: on disk with their architecture, and from a supernet by leading slices."""

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.nn.weights import (
    ChosenEpoch,
    WeightsHeader,
    load_weights,
    read_header,
    read_state,
    save_weights,
)
from dcsnas.spaces.architecture import ArchitectureFile, Provenance, describe
from dcsnas.spaces.sampling import largest_choice, sample_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace

TINY = SearchSpace.load(find_space("tiny"))


def described(seed: int) -> ArchitectureFile:
    choice = sample_choice(TINY, random.Random(seed))
    provenance = Provenance(space="tiny", space_digest=TINY.digest, choice=choice, seed=seed)
    return describe(TINY.architecture(choice), TINY.size, provenance)


def header(architecture: ArchitectureFile | None) -> WeightsHeader:
    return WeightsHeader(
        stage="pretrain", architecture=architecture, space_digest="0" * 16, num_classes=7,
        input=(64, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2),
    )  # fmt: skip


def saved(path: Path, seed: int) -> tuple[ArchitectureFile, nn.Module]:
    content = described(seed)
    module = build(content.network, torch.Generator().manual_seed(seed))
    save_weights(path, module.state_dict(), header(content))
    return content, module


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    content, module = saved(path, 0)
    assert read_header(path) == header(content)
    fresh = build(content.network, torch.Generator().manual_seed(99))
    load_weights(path, fresh, architecture=content)
    state = module.state_dict()
    assert set(read_state(path)) == set(state)
    assert all(torch.equal(fresh.state_dict()[name], state[name]) for name in state)
    x = torch.randn(2, 3, 64, 32)
    assert torch.equal(fresh.eval()(x), module.eval()(x))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    saved(path, 0)
    other = described(1)
    before = build(other.network, torch.Generator().manual_seed(0))
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    with pytest.raises(UserError, match="holds weights of another architecture") as caught:
        load_weights(path, before, architecture=other)
    assert str(path) in str(caught.value)
    assert other.network.digest in str(caught.value)
    assert all(torch.equal(before.state_dict()[name], state[name]) for name in state)


def test_a_supernet_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    save_weights(path, nn.Linear(2, 2).state_dict(), header(None))
    with pytest.raises(UserError, match=r"holds a supernet, not one network"):
        load_weights(path, nn.Linear(2, 2), architecture=described(0))


def test_broken_weight_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_header(path)
    saved(path, 0)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"truncated \(.*; give another file"):
            read_header(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(UserError, match="has no dcsnas header"):
        read_state(path)
    save_file({"x": torch.ones(1)}, path, metadata={"dcsnas": "{"})
    with pytest.raises(UserError, match=r"header is broken \(.*; give another file"):
        read_header(path)


def test_inherited_weights_are_leading_slices() -> None:
    wide = build(TINY.architecture(largest_choice(TINY)), torch.Generator().manual_seed(0))
    network = build(described(3).network, torch.Generator().manual_seed(1))
    network.register_buffer("extra", torch.full((2,), 5.0))
    network.layers[-1].conv.norm.running_mean = torch.full((300,), 6.0)  # type: ignore[union-attr]
    state = wide.state_dict()
    report = inherit_weights(network, state)
    names = set(network.state_dict())
    assert {*report.copied, *report.sliced, *report.left} == names
    assert len(report.copied) + len(report.sliced) + len(report.left) == len(names)
    assert report.left == ("extra", "layers.11.conv.norm.running_mean")
    assert "layers.0.conv.weight" in report.copied
    assert len(report.sliced) > 20
    for name, tensor in network.state_dict().items():
        if name not in report.left:
            source = state[name]
            assert torch.equal(tensor, source[tuple(slice(n) for n in tensor.shape)]), name
            assert (tensor.shape == source.shape) is (name in report.copied), name
    assert network.extra.tolist() == [5.0, 5.0]  # type: ignore[union-attr]
    assert report.summary().endswith("sliced, 2 left as initialised")


def test_a_header_names_its_task_unless_it_is_the_first() -> None:
    plain = header(described(0))
    assert "task" not in plain.model_dump()
    assert WeightsHeader.model_validate(plain.model_dump()).task == "reid"
    other = plain.model_copy(update={"task": "classify"})
    assert other.model_dump()["task"] == "classify"
    assert WeightsHeader.model_validate(other.model_dump()) == other


def test_a_chosen_epoch_of_older_files_is_read() -> None:
    """They named the score by its metric, and counted epochs from 0."""
    old = {"epoch": 3, "map": 61.5, "selected_on": "test"}
    found = ChosenEpoch.model_validate(old)
    assert found == ChosenEpoch(after_epochs=4, metric="map", score=61.5, selected_on="test")
    assert ChosenEpoch.model_validate(found.model_dump()) == found
