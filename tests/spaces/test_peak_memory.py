"""Peak memory as plain values: schedules by hand, and files with and without it."""

from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml, write_yaml
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.layers import Attention, Block, Conv, ConvHead
from dcsnas.spaces.network import Chain, Operator, walk
from dcsnas.spaces.space import load_space

SIZE = (4, 2)
PLANE = 8


def block(**changes: object) -> Block:
    fields = {
        "c_in": 4, "expansion": 3, "c_out": 6, "kernel": 3, "stride": 1,
        "activation": "relu", "divisor": 1, "shortcut": "prefix",
    }  # fmt: skip
    return Block.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        # input 4, then three maps of 12: expanded, convolved, normalised
        (block(), 4 + 3 * 12),
        # nothing is expanded: input 4, output 60 of the projection, padded input 60, sum 60
        (block(expansion=1, c_out=60), 4 + 3 * 60),
        # an input as wide needs no padding; the projection holds 4 before it and two of 60
        (block(expansion=1, c_in=60, c_out=60), 60 + 3 * 60),
        (block(expansion=1, c_out=60, shortcut="equal"), 4 + 4 + 2 * 60),
        # a map of 12 at full size and two at a quarter of it
        (block(stride=2, c_out=1), 4 + 2 * 12),
        (Conv(c_in=4, c_out=7, kernel=1, stride=1, activation="identity"), 4 + 2 * 7),
        # attended, convolved, normalised; then attended, normalised, sum
        (Attention(kind="sa", channels=4, affinity="dot", scale="none", tau=1), 4 + 3 * 4),
        # logits, soft mask, hard mask, and two sums of them
        (Attention(kind="dcs", channels=4, affinity="dot", scale="none", tau=1), 4 + 5 * 4),
        # selected tokens and their unit vectors are kept by the caller, or as many by softmax
        (Attention(kind="dcs", channels=4, affinity="softmax", scale="sqrt", tau=1),
         4 + 2 * 4 + 4 * 4 + 1),
    ],
)  # fmt: skip
def test_layers_by_hand(layer: Block | Conv | Attention, channels: int) -> None:
    assert Operator(layer, SIZE).memory == 4 * PLANE * channels


def test_a_chosen_absence_holds_its_input() -> None:
    layer = Attention(kind="none", channels=4, affinity="dot", scale="none", tau=1)
    assert Operator(layer, SIZE).memory == 4 * PLANE * 4


def test_the_image_is_held_to_the_end_and_counts_once() -> None:
    layers = [
        Conv(c_in=3, c_out=2, kernel=3, stride=2, activation="relu"),
        ConvHead(c_in=2, c_out=40, activation="relu"),
    ]
    image, plane = 3 * 8 * 8, 4 * 4
    first, second = walk(layers, (8, 8))
    assert first.memory == 4 * (image + 2 * 2 * plane)
    assert second.memory == 4 * (image + 2 * plane + 2 * 40 * plane)
    network = Chain(layers=tuple(layers))
    assert network.memory((8, 8)) == second.memory
    assert network.memory((16, 16)) == 4 * second.memory


def test_a_file_states_it(tmp_path: Path) -> None:
    path = tmp_path / "architecture.yaml"
    file = load_space("tiny").sample(seed=1)
    assert file.memory_bytes == file.network.memory(file.input)
    save_architecture(path, file)
    assert load_architecture(path) == file
    content = read_yaml(path)
    assert content["memory_bytes"] == file.memory_bytes
    assert "target_memory_mb" not in content["provenance"]

    write_yaml(path, {**content, "memory_bytes": 7})
    with pytest.raises(UserError, match=r"the file says memory_bytes 7, the layers give \d+; the"):
        load_architecture(path)
    del content["memory_bytes"]
    write_yaml(path, content)
    assert load_architecture(path) == file.model_copy(update={"memory_bytes": None})
    assert read_yaml(path) == content
