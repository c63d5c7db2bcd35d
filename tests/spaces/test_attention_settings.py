"""The attention of a space: alike everywhere or position by position, and a kind's arguments."""

from typing import Any

import pytest
from attention_fakes import register_first

from dcsnas.config.errors import UserError
from dcsnas.config.strict import validate
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.layers import Attention
from dcsnas.spaces.network import Operator
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace, space_operators
from dcsnas.spaces.space_file import AttentionSettings, SpaceFile
from dcsnas.spaces.units import Cost

TINY = SearchSpace.load(find_space("tiny"))


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the kind ``first``, whose selection costs its argument."""
    register_first(monkeypatch)


def space_with(attention: Any) -> SearchSpace:
    content = {**TINY.file.model_dump(mode="json"), "attention": attention}
    return SearchSpace(validate(SpaceFile, content, "f.yaml"))


def refused(attention: Any) -> str:
    with pytest.raises(UserError) as caught:
        space_with(attention)
    return str(caught.value)


def layers_of(space: SearchSpace) -> list[Attention]:
    layers = space.architecture(largest_choice(space)).layers
    return [layer for layer in layers if isinstance(layer, Attention)]


def test_positions_may_differ_in_everything(first: None) -> None:
    space = space_with(
        [
            {"kind": "sa", "affinity": "softmax", "scale": "sqrt"},
            {"kind": ["none", "dcs"], "tau": 0.5},
            {"kind": "first", "arguments": {"first": {"first": 5}}},
        ]
    )
    assert [d.label for d in space.decisions if "kind" in d.label] == ["a1_kind"]
    assert space.file.kinds == ("none", "sa", "dcs", "first")
    sa, dcs, own = layers_of(space)
    assert (sa.kind, sa.affinity, sa.scale, sa.tau) == ("sa", "softmax", "sqrt", 1.0)
    assert (dcs.kind, dcs.affinity, dcs.scale, dcs.tau) == ("dcs", "dot", "cosine", 0.5)
    assert (own.kind, own.arguments) == ("first", {"first": {"first": 5, "power": 1.0}})
    assert sa.arguments == dcs.arguments == {}


def test_equal_settings_at_every_position_are_the_same_networks() -> None:
    one = {"kind": "dcs", "affinity": "dot", "scale": "cosine", "tau": 1.0}
    listed = space_with([one, one, one])
    choice = largest_choice(TINY)
    assert listed.architecture(choice).digest == TINY.architecture(choice).digest
    assert space_operators(listed, (64, 32)).keys() == space_operators(TINY, (64, 32)).keys()


def test_a_position_without_attention_keeps_the_others_in_their_place() -> None:
    space = space_with([{"kind": "none"}, {"kind": "sa"}, {"kind": ["sa", "dcs"]}])
    (kept, chosen) = layers_of(space)
    assert (kept.kind, chosen.kind) == ("sa", "dcs")
    assert [d.label for d in space.decisions if "kind" in d.label] == ["a2_kind"]
    plain, expected = layers_of(TINY)[1:]
    assert (kept.channels, chosen.channels) == (plain.channels, expected.channels)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_list_has_one_for_each_position(count: int) -> None:
    assert refused([{"kind": "sa"}] * count) == (
        f"f.yaml: (top level): attention: a list of {count}, but tiny has 3 positions; give one "
        "for each, or a single mapping for all"
    )


def test_one_kind_everywhere_replaces_those_of_a_list(first: None) -> None:
    space = space_with(
        [{"kind": "sa", "tau": 0.5}, {"kind": "first", "arguments": {"first": {"first": 2}}}, {}]
    )
    changed = space.with_attention(["none", "dcs"])
    assert isinstance(changed.file.attention, tuple)
    assert [settings.kinds for settings in changed.file.attention] == [("none", "dcs")] * 3
    assert [settings.tau for settings in changed.file.attention] == [0.5, 1.0, 1.0]
    assert [settings.arguments for settings in changed.file.attention] == [{}] * 3


def test_unknown_kinds_are_named_with_their_place() -> None:
    expected = f"expected one of {', '.join(KINDS)}, or a list of them in that order"
    assert refused({"kind": "xsa"}) == f"f.yaml: attention.kind: {expected} (given: 'xsa')"
    assert refused({"kind": {"sa": 1}}) == f"f.yaml: attention.kind: {expected}"
    assert refused([{}, {"kind": "xsa"}, {}]) == (
        f"f.yaml: attention[1].kind: {expected} (given: 'xsa')"
    )


def test_arguments_of_a_kind_that_is_not_there_are_refused(first: None) -> None:
    own = {"first": {"first": 3}}
    message = "first: the kind here is sa; remove it"
    assert refused({"kind": "sa", "arguments": own}) == f"f.yaml: attention.arguments: {message}"
    assert refused([{"kind": "first", "arguments": own}, {"kind": "sa", "arguments": own}, {}]) == (
        f"f.yaml: attention[1].arguments: {message}"
    )
    message = "first: the kind here is none or dcs; remove it"
    settings = {"kind": ["none", "dcs"], "arguments": own}
    assert refused(settings) == f"f.yaml: attention.arguments: {message}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "first.first: Field required"),
        ({"first": {}}, "first.first: Field required"),
        ({"first": {"power": 2.0}}, "first.first: Field required"),
        ({"first": {"first": 0}}, "first.first: Input should be greater than 0"),
        ({"first": {"first": 3, "last": 1}}, "first.last: Extra inputs are not permitted"),
        # a sibling of faults 19: all mistakes at once
        (
            {"first": {"first": 0, "last": 1}, "sax": {}, "dcs": {}},
            "sax: the kind here is KINDS; remove it; dcs: the kind here is KINDS; remove it; "
            "first.first: Input should be greater than 0; "
            "first.last: Extra inputs are not permitted",
        ),
    ],
)
def test_arguments_fit_their_kind(arguments: Any, expected: str, first: None) -> None:
    message = f"f.yaml: attention.arguments: {expected}; arguments of first: first, power"
    for kind, said in (("first", "first"), (["sa", "first"], "sa or first")):
        found = refused({"kind": kind, "arguments": arguments})
        assert found == message.replace("KINDS", said)


def test_kinds_without_arguments_take_none() -> None:
    assert refused({"kind": "dcs", "arguments": {"dcs": {"first": 1}}}) == (
        "f.yaml: attention.arguments: dcs.first: Extra inputs are not permitted; arguments of "
        "dcs: theta"
    )


def test_the_digest_is_that_without_arguments_where_there_are_none() -> None:
    content = TINY.file.model_dump(mode="json")
    assert "arguments" not in content["attention"]
    for arguments in ({}, {"dcs": {}}):
        space = space_with({**content["attention"], "arguments": arguments})
        assert space.digest == TINY.digest
        choice = largest_choice(space)
        network = space.architecture(choice)
        assert network.digest == TINY.architecture(choice).digest
        dumped = network.model_dump(mode="json")["layers"]
        assert not [layer for layer in dumped if "arguments" in layer]


def test_the_digest_changes_with_an_argument(first: None) -> None:
    spaces = [
        space_with({"kind": "first", "arguments": {"first": {"first": n}}}) for n in (2, 3, 2)
    ]
    assert spaces[0].digest != spaces[1].digest
    assert spaces[0].digest == spaces[2].digest
    networks = [space.architecture(largest_choice(space)) for space in spaces]
    assert networks[0].digest != networks[1].digest
    assert networks[0].digest == networks[2].digest


def test_arguments_are_in_the_key_and_in_the_cost(first: None) -> None:
    layers = [
        Attention(
            kind="first", channels=8, affinity="dot", scale="none", tau=1.0,
            arguments={"first": {"first": n}},
        )
        for n in (2, 3)
    ]  # fmt: skip
    keys = [Operator(layer, (4, 2)).key for layer in layers]
    assert keys == [f"first dot none first={n} power=1.0 8 @4x2" for n in (2, 3)]
    plain = Attention(kind="sa", channels=8, affinity="dot", scale="none", tau=1.0)
    base = Operator(plain, (4, 2)).cost
    costs = [Operator(layer, (4, 2)).cost for layer in layers]
    assert costs == [base + Cost(0, n * 8, 8) for n in (2, 3)]


def test_arguments_reach_the_selector(first: None) -> None:
    space = space_with(
        [
            {"kind": "first", "arguments": {"first": {"first": 2, "power": 3.0}}},
            {"kind": "sa"},
            {"kind": "first", "arguments": {"first": {"first": 4}}},
        ]
    )
    blocks = attention_blocks(build(space.architecture(largest_choice(space))))
    one, other, last = (dict(block.selectors.items()) for block in blocks.values())
    assert (one["first"].first, one["first"].power) == (2, 3.0)
    assert list(other) == ["sa"]
    assert (last["first"].first, last["first"].power) == (4, 1.0)


def test_a_layer_keeps_the_arguments_of_its_own_kind_alone(first: None) -> None:
    settings = AttentionSettings.model_validate(
        {"kind": ["sa", "first"], "arguments": {"first": {"first": 3}}}
    )
    fields = {"channels": 8, **settings.model_dump(exclude={"kind"})}
    assert Attention(kind="sa", **fields).arguments == {}
    own = Attention(kind="first", **fields)
    assert own.arguments == {"first": {"first": 3, "power": 1.0}}
    assert Attention.model_validate(own.model_dump(mode="json")) == own
