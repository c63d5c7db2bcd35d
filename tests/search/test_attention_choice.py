"""Attention as a choice: supernet, costs, exact search and files against the plain networks."""

import math
import random
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from attention_fakes import register_first
from torch import Tensor, nn

from dcsnas.cli.options import console
from dcsnas.cli.profile import profile as profile_command
from dcsnas.cli.spaces import spaces as spaces_command
from dcsnas.config.errors import UserError
from dcsnas.config.files import write_yaml
from dcsnas.config.strict import validate
from dcsnas.latency.expectation import ExpectedCost, expected_latency
from dcsnas.latency.table import per_layer_ms, predict_ms
from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.search.constrained_choice import most_probable_within
from dcsnas.search.derive import architecture_of
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.attention import KINDS as ALL_KINDS
from dcsnas.spaces.network import walk
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import Choice, SearchSpace, space_operators
from dcsnas.spaces.space_file import SpaceFile
from latency_fakes import fake_table, micro_space
from supernet_fakes import images, one_hot, operations, set_draw, supernet_of

KINDS = ("none", "sa", "dcs")
SETTINGS = [("dot", "none"), ("dot", "sqrt"), ("dot", "cosine"), ("softmax", "sqrt")]
SUBSETS = [kinds for n in (2, 3) for kinds in combinations(KINDS, n)]


def space_of(
    kinds: tuple[str, ...] = KINDS, affinity: str = "dot", scale: str = "cosine"
) -> SearchSpace:
    """Return the micro space with a choice of attention."""
    attention = {"kind": list(kinds), "affinity": affinity, "scale": scale, "tau": 0.7}
    return micro_space(attention=attention)


SPACE = space_of()
TABLE = fake_table(SPACE)


def choices(space: SearchSpace) -> list[dict[str, Any]]:
    """Return every choice of a space."""
    labels = [d.label for d in space.decisions]
    rows = product(*(d.options for d in space.decisions))
    return [dict(zip(labels, row, strict=True)) for row in rows]


def test_a_position_decides_its_kind_after_the_width() -> None:
    labels = [d.label for d in SPACE.decisions]
    assert labels[1:3] == ["b01_width", "a0_kind"]
    assert SPACE.decisions[2].options == ("none", "sa", "dcs")
    assert SPACE.log10_size == pytest.approx(math.log10(3 * 72))
    row = [{"op": "attention"}]
    blocks = [{"op": "block", "expansion": 2, "width": w} for w in (4, 8)]
    twice = micro_space(
        attention={"kind": ["sa", "dcs"]},
        rows=[blocks[0], *row, blocks[1], *row],
        output_stride=2,
    )
    assert [d.label for d in twice.decisions] == ["a0_kind", "a1_kind"]


@pytest.mark.parametrize("kind", ["none", "sa", "dcs"])
def test_a_list_of_one_kind_is_that_kind(kind: str) -> None:
    assert space_of((kind,)).digest == SPACE.with_attention(kind).digest


@pytest.mark.parametrize("kinds", [[], ["dcs", "sa"], ["sa", "sa"], ["sa", "xsa"], ["sa", 3]])
def test_other_lists_are_refused(kinds: list[Any]) -> None:
    content = SPACE.file.model_dump(mode="json")
    content["attention"]["kind"] = kinds
    allowed = f"{', '.join(ALL_KINDS)}, or a"
    with pytest.raises(UserError, match=rf"attention\.kind: expected one of {allowed}"):
        validate(SpaceFile, content, "s.yaml")


@pytest.mark.parametrize(("affinity", "scale"), SETTINGS)
@pytest.mark.parametrize("kinds", SUBSETS, ids="-".join)
def test_certain_supernet_is_the_plain_network(
    kinds: tuple[str, ...], affinity: str, scale: str
) -> None:
    space = space_of(kinds, affinity, scale)
    supernet = supernet_of(space)
    x, rng = images(space), random.Random(0)
    outputs = []
    for kind in kinds:
        choice = {**sample_choice(space, rng), "a0_kind": kind}
        set_draw(supernet, one_hot(space, choice))
        fresh = build(space.architecture(choice)).double().eval()
        report = inherit_weights(fresh, network_weights(supernet))
        assert not report.left
        with torch.no_grad():
            outputs.append(supernet(x))
            for network in (supernet.freeze(choice).eval(), fresh):
                torch.testing.assert_close(outputs[-1], network(x), rtol=0, atol=1e-13)
    assert all(not torch.equal(a, b) for a, b in combinations(outputs, 2))


@torch.no_grad()
def test_arguments_of_a_kind_reach_the_supernet(monkeypatch: pytest.MonkeyPatch) -> None:
    register_first(monkeypatch)
    kinds = ("none", "sa", "first")
    outputs = {}
    for first in (2, 4):
        own = {"first": {"first": first, "power": 2.0}}
        space = micro_space(attention={"kind": list(kinds), "arguments": own})
        torch.manual_seed(0)
        supernet, rng = supernet_of(space), random.Random(0)
        x = images(space)
        for kind in kinds:
            choice = {**sample_choice(space, rng), "a0_kind": kind}
            set_draw(supernet, one_hot(space, choice))
            fresh = build(space.architecture(choice)).double().eval()
            assert not inherit_weights(fresh, network_weights(supernet)).left
            outputs[first, kind] = supernet(x)
            for network in (supernet.freeze(choice).eval(), fresh):
                torch.testing.assert_close(outputs[first, kind], network(x), rtol=0, atol=1e-13)
    assert torch.equal(outputs[2, "sa"], outputs[4, "sa"])
    assert not torch.equal(outputs[2, "first"], outputs[4, "first"])


def test_the_kinds_differ_and_none_is_the_identity() -> None:
    """With one width the choice of a kind alone decides, to the last bit."""
    supernet = supernet_of(SPACE)
    (attention,) = [o for o in operations(supernet) if "kind" in o.argument_list]
    x = torch.randn(2, 8, 4, 2, dtype=torch.float64)
    outputs = {}
    for kind in KINDS:
        choice = {**{d.label: d.options[-1] for d in SPACE.decisions}, "a0_kind": kind}
        set_draw(supernet, one_hot(SPACE, choice))
        outputs[kind] = attention(x)
        assert torch.equal(outputs[kind], attention.freeze(choice)(x))
    assert torch.equal(outputs["none"], x)
    assert not torch.equal(outputs["sa"], outputs["dcs"])


def kind_gradient(space: SearchSpace, kind_p: list[float], *, weight: float) -> Tensor:
    """Return the gradient of a loss for the probabilities of the kinds."""
    supernet = supernet_of(space)
    (attention,) = [o for o in operations(supernet) if "kind" in o.argument_list]
    nn.init.constant_(attention.norm.weight, weight)
    nn.init.zeros_(attention.norm.bias)
    draw = {d.label: torch.full((len(d.options),), 1 / len(d.options)) for d in space.decisions}
    draw = {label: p.double() for label, p in draw.items()}
    p = torch.tensor(kind_p, dtype=torch.float64, requires_grad=True)
    set_draw(supernet, {**draw, "a0_kind": p})
    supernet(images(space)).square().sum().backward()
    assert p.grad is not None
    return p.grad


@pytest.mark.parametrize("scale", ["none", "sqrt", "cosine"])
def test_gradients_reach_the_kinds_once_the_branch_does_something(scale: str) -> None:
    space = space_of(scale=scale)
    third = [1 / 3] * 3
    assert not kind_gradient(space, third, weight=0.0).any(), "a new branch is zero"
    found = kind_gradient(space, third, weight=0.5)
    assert found.abs().min() < found.abs().max()
    assert found[1] != found[2]
    assert found.abs().max() > 1e-6


@pytest.mark.parametrize("scale", ["none", "sqrt", "cosine"])
@pytest.mark.parametrize("p", [[1.0, 0.0, 0.0], [1.0, 1e-300, 1e-300], [0.0, 1.0, 0.0]])
def test_certain_kinds_have_finite_gradients(scale: str, p: list[float]) -> None:
    assert kind_gradient(space_of(scale=scale), p, weight=0.5).isfinite().all()


def test_probabilities_blend_the_branch() -> None:
    """Attending with probability 1/4 adds a quarter of the branch; without dcs nothing selects."""
    space = space_of(("none", "sa"))
    supernet = supernet_of(space)
    (attention,) = [o for o in operations(supernet) if "kind" in o.argument_list]
    largest = {d.label: d.options[-1] for d in space.decisions}
    draw = one_hot(space, largest)
    x = torch.randn(2, 8, 4, 2, dtype=torch.float64)
    set_draw(supernet, draw)
    whole = attention(x) - x
    set_draw(supernet, {**draw, "a0_kind": torch.tensor([0.75, 0.25], dtype=torch.float64)})
    torch.testing.assert_close(attention(x) - x, whole / 4, rtol=1e-12, atol=1e-14)


def random_probabilities(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        d.label: (3 * torch.randn(len(d.options), generator=generator).double()).softmax(0)
        for d in SPACE.decisions
    }


def chance(choice: Choice, probabilities: dict[str, Tensor]) -> float:
    return math.prod(
        probabilities[d.label][d.options.index(choice[d.label])].item() for d in SPACE.decisions
    )


def test_expected_costs_are_those_of_enumeration() -> None:
    p = random_probabilities(0)
    rows = [(chance(c, p), SPACE.architecture(c)) for c in choices(SPACE)]
    assert sum(share for share, _ in rows) == pytest.approx(1.0)
    latency = sum(s * predict_ms(TABLE, a.layers, SPACE.size) for s, a in rows)
    macs = sum(s * a.cost(SPACE.size).macs for s, a in rows)
    assert expected_latency(SPACE, SPACE.size, TABLE)(p).item() == pytest.approx(latency, rel=1e-12)
    count = ExpectedCost(SPACE, SPACE.size, lambda operator: operator.cost.macs)
    assert count(p).item() == pytest.approx(macs, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_most_probable_within_a_budget_is_that_of_enumeration(seed: int) -> None:
    p = random_probabilities(seed)
    rows = []
    for choice in choices(SPACE):
        network = SPACE.architecture(choice)
        ms = predict_ms(TABLE, network.layers, SPACE.size)
        keys = tuple(operator.key for operator in walk(network.layers, SPACE.size))
        rows.append((chance(choice, p), ms, keys))
    lists = {label: row.tolist() for label, row in p.items()}
    all_ms = sorted(ms for _, ms, _ in rows)
    for limit in (all_ms[1], all_ms[len(rows) // 4], all_ms[len(rows) // 2], all_ms[-1]):
        best: dict[tuple[str, ...], float] = {}
        for share, ms, keys in rows:
            if ms <= limit:
                best[keys] = max(share, best.get(keys, 0.0))
        found = most_probable_within(
            SPACE, SPACE.size, TABLE.latency_ms, lists, limit=limit + 1e-9, count=7
        )
        expected = sorted(best.values(), reverse=True)[:7]
        assert [math.exp(f.log_probability) for f in found] == pytest.approx(expected, rel=1e-9)
        for network in found:
            layers = SPACE.architecture(network.choice).layers
            assert predict_ms(TABLE, layers, SPACE.size) == pytest.approx(network.cost)
            assert network.cost <= limit + 1e-9


def test_no_attention_costs_nothing_and_has_no_key() -> None:
    keys = space_operators(SPACE, SPACE.size)
    apart = [space_operators(SPACE.with_attention(kind), SPACE.size) for kind in KINDS]
    assert set(keys) == set().union(*apart)
    assert not [key for key in keys if key.startswith("none")]
    assert {key.split()[0] for key in keys if "cosine" in key} == {"sa", "dcs"}
    choice = {d.label: d.options[0] for d in SPACE.decisions}
    network = SPACE.architecture(choice)
    (place,) = [i for i, layer in enumerate(network.layers) if layer.op == "attention"]
    assert per_layer_ms(TABLE, network.layers, SPACE.size)[place] == 0.0
    without = micro_space(attention={"kind": "none"})
    del choice["a0_kind"]
    assert network.cost(SPACE.size) == without.architecture(choice).cost(SPACE.size)
    assert predict_ms(TABLE, network.layers, SPACE.size) == pytest.approx(
        predict_ms(TABLE, without.architecture(choice).layers, SPACE.size)
    )


def test_a_table_without_a_kind_says_which_operator_it_lacks() -> None:
    table = fake_table(SPACE.with_attention("dcs"))
    with pytest.raises(UserError) as caught:
        expected_latency(SPACE, SPACE.size, table)
    assert str(caught.value) == (
        "fake.json: no entry 'sa dot cosine 4 @4x2'; the table holds space micro at 16x8: profile "
        "the space and input size that you use"
    )
    expected_latency(space_of(("none", "dcs")), SPACE.size, table)


@pytest.mark.parametrize("kind", KINDS)
def test_architecture_files_hold_the_chosen_kind(kind: str, tmp_path: Path) -> None:
    choice = {**sample_choice(SPACE, random.Random(0)), "a0_kind": kind}
    found = architecture_of(SPACE, choice, table=TABLE, seed=0)
    path = tmp_path / "architecture.yaml"
    save_architecture(path, found)
    loaded = load_architecture(path)
    assert loaded == found
    assert loaded.provenance.choice["a0_kind"] == kind
    assert SPACE.architecture(loaded.provenance.choice).digest == found.network.digest
    built, expected = build(loaded.network), build(found.network)
    assert built.state_dict().keys() == expected.state_dict().keys()
    params = sum(p.numel() for p in built.parameters())
    assert params == found.params


def test_profile_counts_the_keys_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "space.yaml"
    write_yaml(path, SPACE.file.model_dump(mode="json"))
    context: Any = None  # of what is given beside --plan and --read
    profile_command(context, str(path), dry_run=True)
    operators = space_operators(SPACE, SPACE.size)
    attention = [key for key in operators if key.startswith(("sa ", "dcs "))]
    assert len(attention) == 4, "two widths of two kinds"
    shown = capsys.readouterr().out
    assert f"{len(operators)} operators" in shown
    assert "4 attention" in shown


def test_spaces_command_shows_the_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 120)  # the names of three kinds are cut at 80 columns
    path = tmp_path / "space.yaml"
    write_yaml(path, SPACE.file.model_dump(mode="json"))
    spaces_command(str(path))
    plain, choice, *_ = capsys.readouterr().out.splitlines()[1:]
    assert plain.split()[:3] == ["micro", "4", "10^1.9"]  # log10 72
    assert choice.split()[:9] == ["+", "none", "|", "sa", "|", "dcs", "x", "1", "10^2.3"]
    count = len(space_operators(SPACE, SPACE.size))
    assert choice.split()[-1] == str(count)
    spaces_command(str(path))
    expected = "Attention  @4x2: channels [4, 8], kind ['none', 'sa', 'dcs']"
    assert expected in capsys.readouterr().out
