"""Architectures: sampling, digests, the file, and what an edited file says."""

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dcsnas.config.errors import UserError
from dcsnas.spaces.architecture import (
    ArchitectureFile,
    Provenance,
    describe,
    load_architecture,
    save_architecture,
)
from dcsnas.spaces.layers import Block, round_channels
from dcsnas.spaces.network import Chain
from dcsnas.spaces.sampling import largest_choice, sample_choice, smallest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.space_file import SpaceFile
from dcsnas.spaces.units import Cost

SPACES = {
    name: SearchSpace.load(find_space(name))
    for name in ("tiny", "fbnetv2", "fbnetv2_e6", "fbnetv2_large")
}
TINY = SPACES["tiny"]
spaces = st.sampled_from(sorted(SPACES)).map(SPACES.__getitem__)
seeds = st.integers(0, 2**32)


def described(space: SearchSpace, seed: int) -> ArchitectureFile:
    choice = sample_choice(space, random.Random(seed))
    provenance = Provenance(space=space.name, space_digest=space.digest, choice=choice, seed=seed)
    return describe(space.architecture(choice), space.size, provenance)


@given(spaces, seeds, st.sampled_from(["dcs", "sa", "none"]), st.integers(16, 90))
def test_every_sample_is_valid_and_costs_lie_between_the_ends(
    space: SearchSpace, seed: int, kind: str, height: int
) -> None:
    space = space.with_attention(kind)
    choice = sample_choice(space, random.Random(seed))
    network = space.architecture(choice)
    assert all(choice[d.label] in d.options for d in space.decisions)
    assert isinstance(space.file, SpaceFile)
    for block in (layer for layer in network.layers if isinstance(layer, Block)):
        assert block.mid == round_channels(block.expansion * block.c_in, space.file.divisor)
    size = (height, 32)
    low, high = (
        space.architecture(end(space)).cost(size) for end in (smallest_choice, largest_choice)
    )
    cost = network.cost(size)
    assert low.params <= cost.params <= high.params
    assert low.macs <= cost.macs <= high.macs
    assert low.activations <= cost.activations <= high.activations
    assert network.feature_dim == space.feature_dim


def test_sampling_is_uniform_and_seeded() -> None:
    rng = random.Random(0)
    drawn = [sample_choice(TINY, rng) for _ in range(4000)]
    for decision in TINY.decisions:
        counts = [sum(c[decision.label] == o for c in drawn) for o in decision.options]
        expected = 4000 / len(decision.options)
        assert all(abs(n - expected) < 5 * expected**0.5 for n in counts), (decision, counts)
    assert sample_choice(TINY, random.Random(3)) == sample_choice(TINY, random.Random(3))
    assert sample_choice(TINY, random.Random(3)) != sample_choice(TINY, random.Random(4))


@given(seeds, seeds)
def test_digest_tells_architectures_apart(one: int, other: int) -> None:
    first, second = (sample_choice(TINY, random.Random(seed)) for seed in (one, other))
    digests = [TINY.architecture(choice).digest for choice in (first, second)]
    assert (digests[0] == digests[1]) is (first == second)
    assert digests[0] == TINY.architecture(dict(reversed(first.items()))).digest


def test_digest_changes_with_every_decision() -> None:
    smallest = smallest_choice(TINY)
    changed = [{**smallest, d.label: d.options[-1]} for d in TINY.decisions]
    digests = {TINY.architecture(choice).digest for choice in [smallest, *changed]}
    assert len(digests) == 1 + len(TINY.decisions)


def test_wrong_choice_is_refused() -> None:
    choice = smallest_choice(TINY)
    with pytest.raises(ValueError, match=r"tiny: missing or unknown decisions: \['b00_width'\]"):
        TINY.architecture({k: v for k, v in choice.items() if k != "b00_width"})
    with pytest.raises(ValueError, match=r"missing or unknown decisions: \['b99_width'\]"):
        TINY.architecture({**choice, "b99_width": 16})
    with pytest.raises(ValueError, match=r"b00_width=14 is not one of \(12, 16\)"):
        TINY.architecture({**choice, "b00_width": 14})


@settings(max_examples=15)
@given(spaces, seeds)
def test_file_round_trip(
    tmp_path_factory: pytest.TempPathFactory, space: SearchSpace, seed: int
) -> None:
    path = tmp_path_factory.mktemp("arch") / "architecture.yaml"
    content = described(space, seed)
    save_architecture(path, content)
    loaded = load_architecture(path)
    assert loaded == content
    assert loaded.network.digest == content.network.digest
    # the recorded choice leads to the same network again
    assert space.architecture(loaded.provenance.choice).digest == content.network.digest
    cost = space.architecture(loaded.provenance.choice).cost(loaded.input)
    assert Cost(loaded.params, loaded.macs, loaded.activations) == cost


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (lambda x: [*x[:2], *x[3:]], r"layers\[2\] takes 16 channels, the layer before gives 12"),
        (lambda x: [*x[:-1]], r"layers\[10\]: a head stands at the end, and only there"),
        (lambda x: [*x, x[-1]], r"layers\[11\]: a head stands at the end, and only there"),
        (lambda x: [x[0]], "at least 2 items"),
        (lambda x: x[1:], r"layers\[0\] takes 16 channels, the layer before gives 3"),
    ],
)
def test_layers_that_are_no_network(layers: Any, expected: str) -> None:
    right = TINY.architecture(smallest_choice(TINY)).layers
    assert len(right) == 12
    with pytest.raises(ValidationError, match=expected):
        Chain(layers=tuple(layers(right)))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "architecture.yaml"
    save_architecture(path, described(TINY, 0))
    return path


def refused(path: Path, change: Any) -> str:
    """Apply ``change`` to the file's data and return the message that loading gives."""
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_architecture(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("key", ["params", "macs", "activations"])
def test_changed_cost_is_refused(saved: Path, key: str) -> None:
    right = load_architecture(saved).network.cost(TINY.size)
    said = replace(right, **{key: 1000})
    assert refused(saved, lambda data: data.update({key: 1000})) == (
        f"(top level): the file says {said}, the layers give {right}; the file was edited, derive "
        "it again"
    )


def test_a_file_without_activations_is_refused(saved: Path) -> None:
    message = refused(saved, lambda data: data.pop("activations"))
    assert message.startswith("activations: missing")


def test_changed_input_size_is_refused(saved: Path) -> None:
    message = refused(saved, lambda data: data.update(input=[65, 32]))
    right = described(TINY, 0).network
    assert message.startswith(
        f"(top level): the file says {right.cost(TINY.size)}, the layers give "
        f"{right.cost((65, 32))}; "
    )


@pytest.mark.parametrize(
    ("index", "field", "value", "expected"),
    [
        (2, "c_in", 44, r"^network: layers\[2\] takes 44 channels, the layer before gives \d+$"),
        (2, "c_out", 44, r"^network: layers\[3\] takes \d+ channels, the layer before gives 44$"),
        (4, "channels", 8, r"^network: layers\[4\] takes 8 channels, the layer before gives \d+$"),
        (2, "c_out", -1, r"^network.layers\[2\].c_out: Input should be greater than 0 .*-1\)$"),
        (2, "kernel", 4, r"^network.layers\[2\].kernel: Input should be 1, 3, 5 or 7 .*4\)$"),
        (2, "op", "blok", r"^network.layers\[2\].op: Input should be one of 'conv', .*'blok'\)$"),
        (2, "strid", 1, r"^network.layers\[2\].strid: unknown key; did you mean 'stride'\?$"),
        (4, "stride", 1, r"^network.layers\[4\].stride: unknown key; allowed: affinity, "
         "arguments, channels, kind, op, scale, tau$"),
    ],
)  # fmt: skip
def test_broken_layer_is_named(
    saved: Path, index: int, field: str, value: object, expected: str
) -> None:
    message = refused(saved, lambda data: data["network"]["layers"][index].update({field: value}))
    assert re.search(expected, message), message


def test_unknown_version_is_refused(saved: Path) -> None:
    message = refused(saved, lambda data: data.update(schema_version=3))
    assert message == (
        "schema_version: schema 3 is of a newer dcsnas; this one reads up to 2: upgrade dcsnas, "
        "or write the file again with this one (given: 3)"
    )


def test_truncated_file_is_refused_wherever_it_ends(saved: Path) -> None:
    text = saved.read_text()
    ends = [i for i, character in enumerate(text) if character == "\n"]
    for end in [0, len(text) - 3, *ends[1:-1:3]]:
        saved.write_text(text[:end])
        with pytest.raises(UserError) as caught:
            load_architecture(saved)
        assert str(saved) in str(caught.value)
    saved.write_text(text)
    assert load_architecture(saved) == described(TINY, 0)
