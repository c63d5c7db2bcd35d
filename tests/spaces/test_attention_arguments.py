"""Arguments of the shipped kinds in files: costs, latency keys, digests, and what is refused."""

from typing import Any

import pytest
import torch
import yaml

from dcsnas.config.errors import UserError
from dcsnas.config.strict import validate
from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.spaces.attention import find_kind
from dcsnas.spaces.layers import Attention
from dcsnas.spaces.network import Operator
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace, space_operators
from dcsnas.spaces.space_file import SpaceFile
from dcsnas.spaces.units import Cost
from dcsnas.zoo.counting import count_call
from latency_fakes import micro_space

TINY = SearchSpace.load(find_space("tiny"))
WINDOW = "interpolate=affinity learn=both per=token windows=1"


def layer(kind: str, channels: int = 16, **own: Any) -> Attention:
    arguments = {kind: own} if own else {}
    block = {"affinity": "dot", "scale": "cosine", "tau": 1.0}
    return Attention(kind=kind, channels=channels, arguments=arguments, **block)


CASES = [
    ("gsa", {}, "gsa dot cosine"),
    ("dcs", {}, "dcs dot cosine"),
    ("dcs", {"theta": "full"}, "dcs dot cosine"),
    ("dcs", {"theta": {"rank": 5}}, "dcs dot cosine theta=rank:5"),
    ("dcs_window", {}, f"dcs_window dot cosine {WINDOW}"),
    ("dcs_window", {"length": 0.7, "shortest": 0.1}, f"dcs_window dot cosine {WINDOW}"),
    (
        "dcs_window",
        {"windows": 3, "per": "module", "learn": "position", "interpolate": "values"},
        "dcs_window dot cosine interpolate=values learn=position per=module windows=3",
    ),
]


@pytest.mark.parametrize(("kind", "own", "form"), CASES)
def test_costs_are_those_of_the_module_and_keys_name_what_takes_time(
    kind: str, own: dict[str, Any], form: str
) -> None:
    described = layer(kind, **own)
    assert described.form == form
    assert Operator(described, (4, 3)).key == f"{form} 16 @4x3"
    module = AttentionBlock(**described.model_dump(exclude={"op"})).eval()
    (unit,) = described.units((4, 3))
    counted = count_call(module, torch.zeros(1, 16, 4, 3))
    assert counted == Cost(unit.params, unit.macs, unit.activations)


def test_a_theta_of_a_rank_has_two_layers() -> None:
    full, low = (layer("dcs", 512, **own) for own in ({}, {"theta": {"rank": 64}}))
    plain, at_full, at_low = (
        sum(u.params for u in one.units((4, 2))) for one in (layer("sa", 512), full, low)
    )
    assert at_full - plain == 512 * 513
    assert at_low - plain == 2 * 512 * 64 + 64 + 512


def test_a_full_theta_is_said_in_no_file() -> None:
    """Files, tables and weights of before ranks stay what they were."""
    content = TINY.file.model_dump(mode="json")
    said = {**content["attention"], "arguments": {"dcs": {"theta": "full"}}}
    space = SearchSpace(validate(SpaceFile, {**content, "attention": said}, "f.yaml"))
    assert space.digest == TINY.digest
    assert space_operators(space, (64, 32)).keys() == space_operators(TINY, (64, 32)).keys()
    network = space.architecture(largest_choice(space))
    assert "arguments" not in yaml.safe_dump(network.model_dump(mode="json"))
    low = {**content["attention"], "arguments": {"dcs": {"theta": {"rank": 4}}}}
    assert (
        SearchSpace(validate(SpaceFile, {**content, "attention": low}, "f")).digest != TINY.digest
    )


@pytest.mark.parametrize(
    ("kind", "own", "message"),
    [
        ("dcs", {"theta": {"rank": 0}}, "dcs.theta.Rank.rank: Input should be greater than 0"),
        ("dcs", {"theta": "half"}, "dcs.theta.literal['full']: Input should be 'full'"),
        ("gsa", {"ratio": 2}, "gsa.ratio: Extra inputs are not permitted; arguments of gsa: none"),
        ("dcs_window", {"length": 1.5}, "length: 1.5 is longer than the channels, of which"),
        ("dcs_window", {"length": 0}, "dcs_window.length: Input should be greater than 0"),
        ("dcs_window", {"per": "image"}, "dcs_window.per: Input should be 'token' or 'module'"),
        ("dcs_window", {"learn": "none"}, "learn: Input should be 'both', 'position' or 'length'"),
        ("dcs_window", {"interpolate": "x"}, "interpolate: Input should be 'affinity' or 'values'"),
        ("dcs_window", {"windows": 0}, "dcs_window.windows: Input should be greater than 0"),
        ("dcs_window", {"length": 0.2}, "length: 0.2 must lie between shortest, 0.25, and 1"),
        ("dcs_window", {"length": 1.0}, "length: 1 must lie between shortest, 0.25, and 1"),
        ("dcs_window", {"shortest": 0.6}, "length: 0.5 must lie between shortest, 0.6, and 1"),
        ("dcs_window", {"shortest": -1}, "dcs_window.shortest: Input should be greater than 0"),
    ],
)
def test_wrong_arguments(kind: str, own: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        micro_space(attention={"kind": kind, "arguments": {kind: own}})
    assert message in str(caught.value)
    assert str(caught.value).startswith("micro: attention.arguments: ")


@pytest.mark.parametrize(
    ("kind", "own", "message"),
    [
        ("dcs", {"theta": {"rank": 6}}, "dcs: theta.rank: 6 is above the 4 channels here; give at"),
        ("gsa", {}, "gsa: an eighth of 4 channels is none; gsa needs at least 8 channels"),
        ("dcs_window", {"windows": 5}, "dcs_window: windows: 5 are more than the 4 channels here"),
        (
            "dcs_window",
            {"learn": "position", "length": 0.2},
            "dcs_window: length: 0.2 of 4 channels is less than one; give at least 0.25",
        ),
    ],
)
def test_what_does_not_fit_the_narrowest_width(kind: str, own: Any, message: str) -> None:
    given = {kind: own} if own else {}
    space = micro_space(attention={"kind": ["none", kind], "arguments": given})
    with pytest.raises(UserError) as caught:
        _ = space.slots
    assert str(caught.value).startswith(f"space micro: attention position 0: {message}")
    with pytest.raises(ValueError, match=message[:20]):
        layer(kind, 4, **own)


def test_a_window_of_all_channels_may_stay_where_it_is() -> None:
    assert layer("dcs_window", learn="position", length=1.0).arguments["dcs_window"]["length"] == 1


def test_kinds_come_in_an_order() -> None:
    names = ["none", "sa", "gsa", "dcs_window", "dcs"]
    space = micro_space(
        attention={"kind": names},
        rows=[{"op": "block", "expansion": 2, "width": [8, 16]}, {"op": "attention"}],
        output_stride=2,
    )
    assert space.decisions[-1].options == tuple(names)
    assert all(find_kind(name).name == name for name in names)
