"""Spaces and networks of a backbone as plain values: slots, sizes, keys, costs, files."""

from pathlib import Path
from typing import Any

import pytest
from backbone_fakes import FakeBackbone

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml, write_yaml
from dcsnas.config.strict import validate
from dcsnas.spaces.architecture import (
    ArchitectureFile,
    Provenance,
    describe,
    load_architecture,
    save_architecture,
)
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.layers import Attention, Trunk
from dcsnas.spaces.network import BackboneNetwork, layer_sizes
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.space import SearchSpace, space_operators, walk_slots
from dcsnas.spaces.space_file import BackboneFile
from dcsnas.spaces.units import AttentionUnit, Cost, Selected, total_cost

pytestmark = pytest.mark.usefixtures("fake_backbone")
SIZE = (64, 32)
CHANNELS = (4, 8, 12)
MAPS = {16: ((16, 8), (8, 4), (4, 2)), 8: ((16, 8), (8, 4), (8, 4))}


def content(**changes: Any) -> dict[str, Any]:
    file = {
        "schema_version": 2,
        "name": "with_fake",
        "source": "tests",
        "input": {"height": 64, "width": 32},
        "output_stride": 16,
        "backbone": "fake",
        "attention": {"kind": "dcs"},
    }
    return {**file, **changes}


def space_of(**changes: Any) -> SearchSpace:
    return SearchSpace(validate(BackboneFile, content(**changes), "f.yaml"))


def kinds_of(network: Any) -> tuple[str, ...]:
    assert isinstance(network, BackboneNetwork)
    return tuple(layer.kind for layer in network.attention)


def described(space: SearchSpace, choice: Any) -> ArchitectureFile:
    provenance = Provenance(space=space.name, space_digest=space.digest, choice=choice, seed=0)
    return describe(space.architecture(choice), space.size, provenance)


def test_a_trunk_and_an_attention_module_for_each_stage() -> None:
    space = space_of()
    trunk, *attentions = space.slots
    assert trunk.layer is Trunk
    assert dict(trunk.constant) == {"backbone": "fake", "output_stride": 16, "features": 12}
    assert [slot.layer for slot in attentions] == [Attention] * 3
    assert [slot.constant["channels"] for slot in attentions] == list(CHANNELS)
    assert space.decisions == ()
    assert (space.num_blocks, space.log10_size, space.feature_dim) == (0, 0.0, 12)
    network = space.any_architecture
    assert kinds_of(network) == ("dcs", "dcs", "dcs")
    assert network == space.architecture({})


def test_kinds_are_decided_position_by_position() -> None:
    space = space_of(attention={"kind": ["none", "sa", "dcs"]})
    options = {d.label: d.options for d in space.decisions}
    assert options == dict.fromkeys(("a0_kind", "a1_kind", "a2_kind"), ("none", "sa", "dcs"))
    assert 10**space.log10_size == pytest.approx(27)
    choice = {"a0_kind": "dcs", "a1_kind": "none", "a2_kind": "sa"}
    assert kinds_of(space.architecture(choice)) == ("dcs", "none", "sa")
    ends = (smallest_choice(space), largest_choice(space))
    assert [set(end.values()) for end in ends] == [{"none"}, {"dcs"}]
    with pytest.raises(ValueError, match=r"missing or unknown decisions: \['a0_kind'\]"):
        space.architecture({"a1_kind": "sa", "a2_kind": "sa"})
    with pytest.raises(ValueError, match="a0_kind=xsa is not one of"):
        space.architecture({**choice, "a0_kind": "xsa"})


def test_positions_may_differ() -> None:
    settings = [{"kind": "none"}, {"kind": "sa", "affinity": "softmax"}, {"kind": ["sa", "dcs"]}]
    space = space_of(attention=settings)
    assert [d.label for d in space.decisions] == ["a2_kind"]
    network = space.architecture({"a2_kind": "dcs"})
    assert kinds_of(network) == ("none", "sa", "dcs")
    assert [layer.form.split()[:2] for layer in network.layers[1:]] == [
        ["none", "dot"], ["sa", "softmax"], ["dcs", "dot"],
    ]  # fmt: skip


@pytest.mark.parametrize("stride", [16, 8])
def test_attention_runs_inside_of_the_trunk(stride: int) -> None:
    space = space_of(output_stride=stride)
    layers = space.any_architecture.layers
    assert tuple(layer_sizes(layers, SIZE)) == (SIZE, *MAPS[stride])
    operators = space.any_architecture.operators(SIZE)
    assert [operator.key for operator in operators] == [
        f"trunk fake s{stride} 3-12 @64x32",
        *(
            f"dcs dot cosine {channels} @{height}x{width}"
            for channels, (height, width) in zip(CHANNELS, MAPS[stride], strict=True)
        ),
    ]
    assert [slot.layer for slot, _ in walk_slots(space, SIZE)] == [s.layer for s in space.slots]


def test_a_table_of_the_space_has_every_kind_that_runs() -> None:
    space = space_of(attention={"kind": ["none", "sa", "dcs"], "scale": "none"})
    found = space_operators(space, SIZE)
    assert set(found) == {
        "trunk fake s16 3-12 @64x32",
        *(
            f"{kind} dot none {channels} @{height}x{width}"
            for channels, (height, width) in zip(CHANNELS, MAPS[16], strict=True)
            for kind in ("sa", "dcs")
        ),
    }
    assert all(key == operator.key for key, operator in found.items())


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("size", [(64, 32), (71, 33)])
def test_costs_are_those_of_the_trunk_and_of_attention(
    stride: int, size: tuple[int, int], fake_backbone: FakeBackbone
) -> None:
    space = space_of(output_stride=stride, attention={"kind": ["none", "sa", "dcs"]})
    trunk = fake_backbone.cost(stride, size)
    maps = fake_backbone.map_sizes(stride, size)
    none = space.architecture(dict.fromkeys(("a0_kind", "a1_kind", "a2_kind"), "none"))
    assert none.cost(size) == trunk
    network = space.architecture({"a0_kind": "sa", "a1_kind": "none", "a2_kind": "dcs"})
    tokens = maps[2][0] * maps[2][1]
    theta = Cost(12 * 12 + 12, tokens * 12 * 12, tokens * 12)
    units = [
        AttentionUnit("dot", 4, *maps[0], Cost(), "none", Selected()),
        AttentionUnit("dot", 12, *maps[2], theta, "none", Selected()),
    ]
    assert network.cost(size) == trunk + total_cost(units)


def test_file_round_trip(tmp_path: Path) -> None:
    space = space_of(attention={"kind": ["none", "sa", "dcs"]})
    choice = {"a0_kind": "dcs", "a1_kind": "none", "a2_kind": "sa"}
    file = described(space, choice)
    path = tmp_path / "architecture.yaml"
    save_architecture(path, file)
    loaded = load_architecture(path)
    assert loaded == file
    assert isinstance(loaded.network, BackboneNetwork)
    assert loaded.network.digest == file.network.digest
    assert space.architecture(loaded.provenance.choice) == loaded.network
    assert loaded.feature_dim == 12
    data = read_yaml(path)
    assert data["schema_version"] == 2
    assert data["network"]["backbone"] == "fake"
    assert [layer["kind"] for layer in data["network"]["attention"]] == ["dcs", "none", "sa"]


def test_the_digest_tells_networks_apart() -> None:
    spaces = [
        space_of(),
        space_of(output_stride=8),
        space_of(attention={"kind": "sa"}),
        space_of(attention=[{"kind": "sa"}, {"kind": "dcs"}, {"kind": "dcs"}]),
        space_of(attention=[{"kind": "dcs"}, {"kind": "sa"}, {"kind": "dcs"}]),
    ]
    assert len({space.digest for space in spaces}) == len(spaces)
    assert len({space.any_architecture.digest for space in spaces}) == len(spaces)
    assert space_of().any_architecture.digest == spaces[0].any_architecture.digest
    assert spaces[0].with_attention("sa").any_architecture == spaces[2].any_architecture


def test_edited_costs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "architecture.yaml"
    save_architecture(path, described(space_of(), {}))
    data = read_yaml(path)
    write_yaml(path, {**data, "params": data["params"] + 1})
    with pytest.raises(UserError, match="the file was edited, derive it again"):
        load_architecture(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda network: network.update(strid=1), ".strid: unknown key; allowed: attention, "
         "backbone, features, output_stride"),
        (lambda network: network["attention"][1].update(channels=-1),
         ".attention[1].channels: Input should be greater than 0 (given: -1)"),
        (lambda network: network["attention"][2].update(kind="xsa"),
         f".attention[2].kind: attention kind 'xsa' is none of {', '.join(KINDS)} (given: 'xsa')"),
        (lambda network: network["attention"].pop(), ": channels of attention: [4, 8] given"),
        (lambda network: network["attention"][1].update(channels=9),
         ": channels of attention: [4, 9, 12] given, fake has [4, 8, 12]"),
        (lambda network: network.update(features=13), ": features: 13 given, fake has 12"),
        (lambda network: network.update(output_stride=32),
         ": output_stride: 32 given, fake has 16 or 8"),
    ],
)  # fmt: skip
def test_networks_that_are_none_of_the_backbone_are_refused(
    change: Any, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "architecture.yaml"
    save_architecture(path, described(space_of(attention={"kind": "none"}), {}))
    data = read_yaml(path)
    change(data["network"])
    write_yaml(path, data)
    with pytest.raises(UserError) as caught:
        load_architecture(path)
    assert str(caught.value).startswith(f"{path}: network{expected}")


def test_other_output_strides_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        _ = space_of(output_stride=32).slots
    assert str(caught.value) == ("space with_fake: output_stride: 32 given, fake runs at 16 or 8")


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_list_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(UserError) as caught:
        _ = space_of(attention=[{"kind": "sa"}] * count).slots
    assert str(caught.value) == (
        f"space with_fake: attention: a list of {count}, but with_fake has 3 positions; give one "
        "for each, or a single mapping for all"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows": []}, "rows: unknown key; allowed: attention, backbone, input, name, "
         "output_stride, schema_version, source"),
        ({"backbone": None}, "backbone: Input should be a valid string (given: None)"),
        ({"output_stride": 0}, "output_stride: Input should be greater than 0 (given: 0)"),
        ({"attention": [{"kind": "sa", "tua": 1.0}]},
         "attention[0].tua: unknown key; did you mean 'tau'?"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "f.yaml"
    write_yaml(path, content(**changes))
    with pytest.raises(UserError) as caught:
        SearchSpace.load(path)
    assert str(caught.value) == f"{path}: {expected}"
