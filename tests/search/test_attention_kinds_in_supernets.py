"""Kinds whose selection depends on the number of channels, where that is a choice."""

import random
from typing import Any

import pytest
import torch
from torch import nn

from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import SearchSpace
from latency_fakes import micro_space
from supernet_fakes import images, one_hot, operations, set_draw, supernet_of

ROWS = [
    {"op": "block", "expansion": 1, "width": 8},
    {"op": "block", "expansion": [1.5, 3], "width": [8, 12, 20], "stride": 2},
    {"op": "attention"},
    {"op": "block", "expansion": 2, "width": [8, 16]},
]
OWN: list[tuple[str, dict[str, Any]]] = [
    ("gsa", {}),
    ("dcs", {"theta": {"rank": 5}}),
    *[
        ("dcs_window", {"per": per, "interpolate": interpolate, "windows": windows})
        for per in ("token", "module")
        for interpolate, windows in (("affinity", 2), ("values", 1))
    ],
    ("dcs_window", {"learn": "length"}),
]


def space_of(kind: Any, own: dict[str, dict[str, Any]], scale: str = "cosine") -> SearchSpace:
    attention = {"kind": kind, "scale": scale, "arguments": {k: v for k, v in own.items() if v}}
    return micro_space(attention=attention, rows=ROWS)


def assert_certain_is_plain(space: SearchSpace, extra: dict[str, str]) -> list[torch.Tensor]:
    supernet = supernet_of(space)
    for operation in operations(supernet):
        for parameter in getattr(operation, "search_parameters", list)():
            nn.init.normal_(parameter, 0.0, 0.5)
    x, outputs, rng = images(space), [], random.Random(0)
    with torch.no_grad():
        for width in (8, 12, 20):
            choice = {**sample_choice(space, rng), "b01_width": width, **extra}
            set_draw(supernet, one_hot(space, choice))
            fresh = build(space.architecture(choice)).double().eval()
            assert not inherit_weights(fresh, network_weights(supernet)).left
            outputs.append(supernet(x))
            for network in (supernet.freeze(choice).eval(), fresh):
                torch.testing.assert_close(outputs[-1], network(x), rtol=0, atol=1e-12)
    return outputs


@pytest.mark.parametrize("scale", ["none", "sqrt", "cosine"])
@pytest.mark.parametrize(("kind", "own"), OWN)
def test_certain_widths_are_the_plain_network(kind: str, own: dict[str, Any], scale: str) -> None:
    assert_certain_is_plain(space_of(kind, {kind: own}, scale), {})


def test_certain_kinds_among_all_are_the_plain_network() -> None:
    kinds = ["none", "sa", "gsa", "dcs_window", "dcs"]
    space = space_of(kinds, {"dcs": {"theta": {"rank": 5}}})
    outputs = [assert_certain_is_plain(space, {"a0_kind": kind}) for kind in kinds]
    assert all(len(one) == 3 for one in outputs)


@pytest.mark.parametrize(("kind", "own"), OWN)
def test_what_selects_has_a_gradient_under_uncertain_widths(kind: str, own: dict) -> None:
    space = space_of(kind, {kind: own})
    supernet = supernet_of(space).train()
    set_draw(
        supernet,
        {d.label: torch.tensor(space.uniform()[d.label]).double() for d in space.decisions},
    )
    supernet(images(space)).square().sum().backward()
    selecting = [p for o in operations(supernet) for p in getattr(o, "search_parameters", list)()]
    assert selecting
    for parameter in selecting:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0
