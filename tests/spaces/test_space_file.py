"""The grammar of space files: options, strides, and every mistake with its place."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Strict, validate
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead, PoolHead, Selection, Trunk
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import find_space, shipped_spaces
from dcsnas.spaces.space import Decision, SearchSpace
from dcsnas.spaces.space_file import AnySpaceFile, SpaceFile, expand_options

TINY: dict[str, Any] = yaml.safe_load(find_space("tiny").read_text())


def changed(**changes: Any) -> dict[str, Any]:
    """Return tiny's file with ``a__1__b=value`` set at a[1].b."""
    data = copy.deepcopy(TINY)
    for path, value in changes.items():
        node: Any = data
        *parents, last = path.split("__")
        for key in parents:
            node = node[int(key) if key.isdigit() else key]
        node[int(last) if last.isdigit() else last] = value
    return data


def space_of(**changes: Any) -> SearchSpace:
    return SearchSpace(validate(SpaceFile, changed(**changes), "f.yaml"))


def errors_of(**changes: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        validate(SpaceFile, changed(**changes), "f.yaml")
    return [line.removeprefix("f.yaml: ") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (6, (6,)),
        (2.5, (2.5,)),
        ([16, 24, 40], (16, 24, 40)),
        ({"min": 0.75, "max": 3.25, "step": 0.5}, (0.75, 1.25, 1.75, 2.25, 2.75, 3.25)),
        ({"min": 0.75, "max": 4.5, "step": 0.75}, (0.75, 1.5, 2.25, 3.0, 3.75, 4.5)),
        ({"min": 16, "max": 28, "step": 4}, (16, 20, 24, 28)),
        ({"min": 0.1, "max": 0.7, "step": 0.1}, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ({"min": 5, "max": 5, "step": 1}, (5,)),
    ],
)
def test_expand_options(value: object, options: tuple[float, ...]) -> None:
    assert expand_options(value) == options


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 30))
def test_a_range_hits_both_ends(low: int, step: int, count: int) -> None:
    given_range = {"min": low / 20, "max": (low + step * count) / 20, "step": step / 20}
    options = expand_options(given_range)
    assert len(options) == count + 1
    assert (options[0], options[-1]) == (given_range["min"], given_range["max"])
    assert options == tuple((low + step * index) / 20 for index in range(count + 1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("wide", "expected a number, a list of numbers, or {min, max, step} (given: 'wide')"),
        (True, "expected a number, a list of numbers, or {min, max, step} (given: True)"),
        (None, "expected a number, a list of numbers, or {min, max, step} (given: None)"),
        (0, "options must be numbers above 0 (given: 0)"),
        ([], "options must be numbers above 0"),
        ([16, "24"], "options must be numbers above 0"),
        ([24, 16], "options must ascend without repeats"),
        ([16, 16], "options must ascend without repeats"),
        ({"min": 16, "max": 30, "step": 4}, "steps of 4 from 16 never reach 30; change max"),
        ({"min": 16, "max": 12, "step": 4}, "a range needs numbers with step > 0 and max >= min"),
        ({"min": 16, "max": 28, "step": 0}, "a range needs numbers with step > 0 and max >= min"),
        ({"min": 16, "max": float("inf"), "step": 4}, "a range needs numbers with step > 0"),
        ({"min": 16, "max": 28}, "a range has exactly the keys min, max, step; found min, max"),
        ({"min": 16, 2: 28}, "a range has exactly the keys min, max, step; found min, 2"),
        (16.5, "Input should be a valid integer, got a number with a fractional part"),
    ],
)
def test_wrong_width(value: object, expected: str) -> None:
    lines = errors_of(rows__1__width=value)
    assert len(lines) == 1
    assert lines[0].startswith(f"rows[1].width: {expected}")


def test_place_inside_a_list_of_options() -> None:
    lines = errors_of(
        rows__1__width=[16, 20.5],
        rows__3__width=[True, 24],
        rows__5__width={"min": 16, "max": True, "step": 1},
    )
    assert [line.partition(":")[0] for line in lines] == [
        "rows[1].width[1]", "rows[3].width", "rows[5].width",
        "rows[3].width[0]", "rows[5].width.max",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"output_stride": 4}, "(top level): output_stride is 4, but the strides of stem and rows "
         "multiply to 16; allowed: 16, or 8 to run the last stride-2 row at stride 1"),
        ({"rows": [{"op": "block", "expansion": 2, "width": 8}], "output_stride": 1},
         "(top level): output_stride is 1, but the strides of stem and rows multiply to 2; "
         "allowed: 2"),
        ({"rows__1__expansion": [1, 3]}, "rows[1].expansion: expansion 1 means no expansion "
         "convolution and cannot be mixed with others; give it a row of its own"),
        ({"rows__1__expansion": {"min": 0.5, "max": 1.5, "step": 0.5}}, "rows[1].expansion: "
         "expansion 1 means no expansion convolution and cannot be mixed with others; give it a "
         "row of its own"),
        ({"rows": [{"op": "attention"}]}, "rows: the first row must be a block, attention follows "
         "a stage"),
        ({"rows": []}, "rows: List should have at least 1 item after validation, not 0"),
        ({"stem__kernel": 4}, "stem.kernel: Input should be 3, 5 or 7 (given: 4)"),
        ({"head__op": "avgpool"},
         "head.op: Input should be one of 'conv_head', 'pool_head' (given: 'avgpool')"),
        ({"head__expansion": 6}, "head.expansion: unknown key; allowed: op, width"),
        ({"head__op": "pool_head"}, "head.expansion: missing; add this key"),
        ({"name": "My Space"},
         "name: String should match pattern '^[a-z][a-z0-9_]*$' (given: 'My Space')"),
        ({"schema_version": 3}, "schema_version: schema 3 is of a newer dcsnas; this one reads up "
         "to 2: upgrade dcsnas, or write the file again with this one (given: 3)"),
        ({"attention__kind": "xsa"},
         f"attention.kind: expected one of {', '.join(KINDS)}, or a list of them in that order "
         "(given: 'xsa')"),
    ],
)  # fmt: skip
def test_one_mistake(changes: dict[str, Any], expected: str) -> None:
    assert errors_of(**changes) == [expected]


BAD = """\
schema_version: 1
name: bad
source: a test
input: {hieght: 256, height: 256, width: 128}
output_stride: 32
activation: swish
attention: {kind: dcs, tau: true}
stem: {width: 16, stride: 4}
rows:
  - {op: block, expansion: 1, width: {min: 12, max: 18, step: 4}}
  - {op: block, expansion: [3, 2], width: 16, repeat: true}
  - {op: attention, kernel: 3}
  - {op: blok, expansion: 2, width: 16}
  - {op: block, expansion: [1, 2], width: 16, kernel: 4}
head: {op: conv_head}
"""


def test_every_mistake_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    """Two in one row as well (faults 19)."""
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    with pytest.raises(UserError) as caught:
        SearchSpace.load(path)
    boolean = "true and false are not allowed"
    assert sorted(str(caught.value).splitlines()) == [
        f"{path}: activation: Input should be 'hard_swish', 'relu' or 'identity' (given: 'swish')",
        f"{path}: attention.tau: {boolean}",
        f"{path}: head.width: missing; add this key",
        f"{path}: input.hieght: unknown key; did you mean 'height'?",
        f"{path}: rows[0].width: steps of 4 from 12 never reach 18; change max or step",
        f"{path}: rows[1].expansion: options must ascend without repeats",
        f"{path}: rows[1].repeat: {boolean}",
        f"{path}: rows[2].kernel: unknown key; allowed: op",
        f"{path}: rows[3].op: Input should be one of 'block', 'attention' (given: 'blok')",
        f"{path}: rows[4].expansion: expansion 1 means no expansion convolution and cannot be "
        "mixed with others; give it a row of its own",
        f"{path}: rows[4].kernel: Input should be 3, 5 or 7 (given: 4)",
        f"{path}: stem.stride: Input should be 1 or 2 (given: 4)",
    ]


def test_rows_become_slots_in_order() -> None:
    space = space_of(rows__1__repeat=2, attention__tau=0.5)
    kinds = [slot.layer for slot in space.slots]
    stage = [Block, Block, Attention]
    assert kinds == [Conv, Block, *stage, *stage, *stage, ConvHead]
    blocks = [slot for slot in space.slots if slot.layer is Block]
    assert [slot.constant["stride"] for slot in blocks] == [1, 2, 1, 2, 1, 2, 1]
    assert blocks[0].constant["c_in"] == 16
    assert [d.label for d in blocks[2].decided.values()] == [
        "b01_width", "b02_expansion", "b02_width",
    ]  # fmt: skip
    attention = space.slots[4]
    assert attention.decided["channels"] is blocks[2].decided["c_out"]
    assert dict(attention.constant) == {
        "kind": "dcs", "affinity": "dot", "scale": "cosine", "tau": 0.5,
    }  # fmt: skip


def test_halved_output_stride_runs_the_last_strided_row_at_stride_1() -> None:
    strides = [
        slot.constant["stride"] for slot in space_of(output_stride=8).slots if slot.layer is Block
    ]
    assert strides == [1, 2, 1, 2, 1, 1, 1]


def test_settings_reach_the_layers() -> None:
    space = space_of(
        divisor=8, shortcut="equal", activation="relu", rows__1__kernel=5,
        head={"op": "pool_head", "width": 96, "expansion": 2},
    )  # fmt: skip
    layers = space.architecture(largest_choice(space)).layers
    activations = {
        layer.activation for layer in layers if not isinstance(layer, Attention | Selection | Trunk)
    }
    assert activations == {"relu"}
    blocks = [layer for layer in layers if isinstance(layer, Block)]
    assert {(b.divisor, b.shortcut) for b in blocks} == {(8, "equal")}
    assert [b.kernel for b in blocks] == [3, 5, 5, 3, 3, 3, 3]
    assert [b.mid % 8 for b in blocks[1:]] == [0] * 6
    head = layers[-1]
    assert isinstance(head, PoolHead)
    assert (head.c_in, head.mid, head.c_out) == (112, 224, 96)


def test_a_single_option_is_no_decision() -> None:
    space = space_of(rows__0__width=16, rows__1__expansion=3, rows__1__width=[20])
    assert not {d.label for d in space.decisions} & {
        "b00_width", "b00_expansion", "b01_width", "b01_expansion",
    }  # fmt: skip
    layers = space.architecture(largest_choice(space)).layers
    assert isinstance(layers[2], Block)
    assert (layers[2].c_in, layers[2].expansion, layers[2].c_out) == (16, 3.0, 20)


def test_decisions_are_listed_once_in_network_order() -> None:
    labels = [d.label for d in space_of().decisions]
    expected = ["b00_width"]
    for index in range(1, 7):
        expected += [f"b{index:02d}_expansion", f"b{index:02d}_width"]
    assert labels == expected
    assert space_of().decisions[0] == Decision("b00_width", (12, 16))


@pytest.mark.parametrize("kind", ["dcs", "sa", "none"])
def test_with_attention_changes_nothing_else(kind: str) -> None:
    space = space_of().with_attention(kind)
    layers = space.architecture(largest_choice(space)).layers
    attention = [layer for layer in layers if isinstance(layer, Attention)]
    assert [layer.kind for layer in attention] == ([] if kind == "none" else [kind] * 3)
    assert space.decisions == space_of().decisions
    rest = [layer for layer in layers if not isinstance(layer, Attention)]
    original = space_of().architecture(largest_choice(space)).layers
    assert rest == [layer for layer in original if not isinstance(layer, Attention)]
    assert (space.digest == space_of().digest) is (kind == "dcs")


def test_comments_do_not_change_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(TINY))
    assert SearchSpace.load(path).digest == space_of().digest
    assert space_of(divisor=8).digest != space_of().digest


def test_find_space() -> None:
    assert {path.stem for path in shipped_spaces()} >= {"tiny", "fbnetv2", "fbnetv2_xlarge_e6"}
    assert find_space("tiny").name == "tiny.yaml"
    assert find_space("some/where.yaml") == Path("some/where.yaml")
    with pytest.raises(UserError) as caught:
        find_space("fbnet")
    assert str(caught.value).startswith("no search space called 'fbnet'; shipped: convnext_base, ")
    assert str(caught.value).endswith("; or give the path of a .yaml file")


class Holder(Strict):
    """A file that holds a space, as latency tables do."""

    space: AnySpaceFile


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stem__kernel": 4}, "space.stem.kernel: Input should be 3, 5 or 7 (given: 4)"),
        ({"rows__1__strid": 2}, "space.rows[1].strid: unknown key; did you mean 'stride'?"),
        ({"divisr": 4}, "space.divisr: unknown key; did you mean 'divisor'?"),
        ({"attention__kind": "xsa"},
         f"space.attention.kind: expected one of {', '.join(KINDS)}, or a "
         "list of them in that order (given: 'xsa')"),
        ({"backbone": "fake"}, "space.divisor: unknown key; allowed: attention, backbone, "
         "input, name, output_stride, schema_version, source"),
        ({"attention": [{}, {"tua": 1.0}, {}]},
         "space.attention[1].tua: unknown key; did you mean 'tau'?"),
    ],
)  # fmt: skip
def test_mistakes_in_a_space_within_a_file(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Holder, {"space": changed(**changes)}, "t.json")
    assert f"t.json: {expected}" in str(caught.value).splitlines()
