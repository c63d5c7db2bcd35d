"""The kind of the strongest channels: in networks, in a search, with its own arguments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dcsnas.config.files import read_yaml
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.attention.selector import as_map
from dcsnas.nn.build import build
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.shipped import find_space
from search_setup import write_search_inputs

PLUGIN = ("--plugin", "examples.extending.attention")


def test_it_selects_the_share_that_a_file_asks_for(dcsnas: Callable[..., str]) -> None:
    content = read_yaml(find_space("tiny"))
    content["attention"] = {"kind": "strongest", "arguments": {"strongest": {"share": 0.25}}}
    Path("space.yaml").write_text(yaml.safe_dump(content))
    dcsnas(*PLUGIN, "sample", "space.yaml", "--which", "largest", "--out", "network.yaml")
    network = load_architecture(Path("network.yaml")).network
    module = build(network)
    block = next(iter(attention_blocks(module).values()))
    tokens = torch.randn(2, 32, 28)
    selector: Any = block.get_submodule("selectors.strongest")
    query, key = selector(as_map(tokens), tokens)
    chosen = (query != 0).any(1)
    assert chosen.sum(-1).tolist() == [7, 7]
    strength = tokens.square().mean(1)
    for row in range(2):
        assert strength[row][chosen[row]].min() > strength[row][~chosen[row]].max()
    assert torch.equal(query, key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strongest": {"share": 2}}, "strongest.share: Input should be less than or equal to 1"),
        ({"strongest": {"part": 0.5}}, "arguments of strongest: share"),
        ({"sa": {}}, "the kind here is strongest"),
    ],
)
def test_wrong_arguments(dcsnas: Callable[..., str], arguments: dict, message: str) -> None:
    content = read_yaml(find_space("tiny"))
    content["attention"] = {"kind": "strongest", "arguments": arguments}
    Path("space.yaml").write_text(yaml.safe_dump(content))
    shown = dcsnas(*PLUGIN, "sample", "space.yaml", "--out", "network.yaml", code=2)
    assert message in shown
    assert "Traceback" not in shown
    assert not Path("network.yaml").exists()


def test_without_the_plugin_the_kind_is_unknown(dcsnas: Callable[..., str]) -> None:
    shown = dcsnas("sample", "tiny", "--attention", "strongest", "--out", "network.yaml", code=2)
    assert "--attention strongest: expected one of none, sa, gsa, dcs_window, dcs" in shown


def test_a_search_chooses_among_kinds(dcsnas: Callable[..., str]) -> None:
    write_search_inputs(Path())
    content = yaml.safe_load(Path("space.yaml").read_text())
    content["attention"]["kind"] = ["none", "sa", "strongest"]
    Path("kinds.yaml").write_text(yaml.safe_dump(content))
    measured = ("--rounds", "2", "--out", "kinds.json")
    dcsnas(*PLUGIN, "profile", "kinds.yaml", *measured)
    config = {
        "space": "kinds.yaml",
        "table": "kinds.json",
        "data": {"root": "data", "workers": 0},
        "epochs": 3,
        "batch": {"identities": 4, "images": 2},
        "augment": {"pad": 1},
        "loss": {"ib_size": [4, 2]},
    }
    Path("search.yaml").write_text(yaml.safe_dump(config))
    # two rounds make a rough table, which a busy machine may call disturbed
    dcsnas(*PLUGIN, "search", "search.yaml", "--allow-disturbed", "--out", "run")
    dcsnas(*PLUGIN, "derive", "run", "--weights", "untrained.safetensors")
    chosen = load_architecture(Path("run/architecture.yaml")).provenance.choice["a0_kind"]
    assert chosen in ("none", "sa", "strongest")
