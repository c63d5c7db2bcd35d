"""Weights of others: read without running code, matched by name or order, refused elsewhere."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import find_backbone
from dcsnas.zoo.torchvision_shim import import_timm
from dcsnas.zoo.weights import load_foreign_weights, load_plain_state, match

NAME = "mobilenetv2_035"


def trunk(name: str = NAME) -> nn.Module:
    return find_backbone(name).create(32).eval()


def with_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    classifier = {"classifier.weight": torch.zeros(10, 1280), "classifier.bias": torch.zeros(10)}
    return {**state, **classifier}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` under other names, without counters, as files of other programs are."""
    kept = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    pairs = enumerate(kept.items())
    return {f"features.{index}.{name.rpartition('.')[2]}": t for index, (name, t) in pairs}


WRAPPINGS: dict[str, Any] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state, "epoch": 3},
    "both": lambda state: {"model": {"state_dict": state}},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "parallel in state_dict": lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}},
    "beside numbers": lambda state: {**state, "epoch": 3, "best": 0.5},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_are_taken_off(tmp_path: Path, wrapping: str) -> None:
    state = {"conv.weight": torch.randn(2, 3), "conv.bias": torch.randn(2)}
    torch.save(WRAPPINGS[wrapping](state), tmp_path / "weights.pth")
    found = load_plain_state(tmp_path / "weights.pth")
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_files_load_into_a_trunk_that_then_computes_the_same(tmp_path: Path) -> None:
    source, images = trunk(), torch.randn(2, 3, 64, 32)
    files = {
        "names.safetensors": with_classifier(source.state_dict()),
        "names.pth": {"state_dict": with_classifier(source.state_dict())},
        "order.pt": with_classifier(renamed(source.state_dict())),
    }
    for name, content in files.items():
        path = tmp_path / name
        save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
        network = trunk()
        assert not torch.equal(network(images), source(images))
        found = load_foreign_weights(path, network)
        assert torch.equal(network(images), source(images))
        assert set(found.unused) == {"classifier.weight", "classifier.bias"}
        assert found.by == name.partition(".")[0].removesuffix("s")


def test_the_report_names_every_tensor_once() -> None:
    network = trunk()
    state = with_classifier(network.state_dict())
    del state["bn1.bias"]
    state["bn1.weight"] = torch.zeros(5)
    found = match(network, state)
    assert found.by == "name"
    assert found.left == ("bn1.weight", "bn1.bias")
    assert found.unused == ("bn1.weight", "classifier.weight", "classifier.bias")
    assert set(found.tensors) == set(network.state_dict()) - set(found.left)
    assert found.summary() == (
        "310 tensors matched by name, 2 left as initialised, 3 of the file not used "
        "(bn1.weight, classifier.weight, classifier.bias)"
    )


def test_the_report_says_that_order_was_used() -> None:
    network = trunk()
    found = match(network, renamed(network.state_dict()))
    assert found.summary() == (
        "260 tensors matched by their order, since no name agrees, 0 left as initialised, "
        "0 of the file not used"
    )
    state = network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.tensors.items())


def test_order_alone_is_not_enough() -> None:
    network = trunk()
    state = renamed(network.state_dict())
    for changed in (_swapped(state), dict(list(state.items())[:-1]), {**state, **_one(network)}):
        with pytest.raises(UserError, match="weights of another network"):
            match(network, changed)


def _swapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Exchange a BatchNorm's weight and bias, which have one shape."""
    names = list(state)
    names[1], names[2] = names[2], names[1]
    return {name: state[name] for name in names}


def _one(network: nn.Module) -> dict[str, Tensor]:
    """Return one tensor under the network's own name: then the others' names mean something."""
    name, tensor = next(iter(network.state_dict().items()))
    return {name: tensor}


def test_weights_of_a_wider_network_are_refused() -> None:
    with pytest.raises(UserError) as stop:
        match(trunk(), trunk("mobilenetv2_050").state_dict(), "other.pth")
    assert str(stop.value) == (
        "other.pth: weights of another network: 73 of 260 tensors of the network agree with one of "
        "the 260 of the file; blocks.1.0.conv_pwl.weight is [8, 48, 1, 1] in the network, "
        "[16, 48, 1, 1] in the file; give the weights of this backbone, or name the backbone that "
        "they are of"
    )


def test_weights_of_another_family_are_refused() -> None:
    with pytest.raises(UserError) as stop:
        match(trunk(), renamed(trunk("resnet10t").state_dict()))
    assert str(stop.value) == (
        "the weights: weights of another network: 0 of 260 tensors of the network agree with one "
        "of the 70 of the file; conv_stem.weight [16, 3, 3, 3] is not in the file, which begins "
        "with features.0.weight [24, 3, 3, 3]; give the weights of this backbone, or name the "
        "backbone that they are of"
    )


def test_weights_that_would_leave_half_at_random_are_refused() -> None:
    # a ResNet-50's file fits a ResNet-101 but for 17 of its 23 blocks in the third stage
    with torch.device("meta"):  # shapes are all that counts
        small, large = map(import_timm().create_model, ("resnet50", "resnet101"))
    with pytest.raises(UserError, match=r"267 of 522 tensors .*layer3\.6\.conv1\.weight"):
        match(large, small.state_dict())
    match(small, large.state_dict())  # what the report says is not used


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
