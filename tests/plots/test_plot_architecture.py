"""The architecture's picture: its values, its bars, and that no texts overlap."""

import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from dcsnas.config.errors import UserError
from dcsnas.latency.table import Entry, LatencyTable
from dcsnas.plots.architecture import plot_architecture
from dcsnas.plots.columns import columns_of, kind_shares
from dcsnas.spaces.architecture import ArchitectureFile, Provenance, describe
from dcsnas.spaces.network import walk
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from latency_fakes import CONDITIONS, fake_ms, fake_table, fake_timing, micro_space
from plot_fakes import derived, outside, overlapping, texts_of


def bars(axes: Axes, label: str) -> dict[int, float]:
    """Return the heights by centre of the bars that are called ``label``."""
    (found,) = [
        c for c in axes.containers if isinstance(c, BarContainer) and c.get_label() == label
    ]
    return {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in found}


def largest(space: SearchSpace) -> ArchitectureFile:
    choice = largest_choice(space)
    origin = Provenance(space=space.name, space_digest=space.digest, choice=choice, seed=0)
    return describe(space.architecture(choice), space.size, origin)


def table_for(space: SearchSpace, architecture: ArchitectureFile) -> LatencyTable:
    """Return a fake table with the operators of one network at the space's own input size."""
    operators = walk(architecture.network.layers, space.size)
    entries = {o.key: Entry(**fake_timing(0.01 + 1e-8 * o.cost.macs)) for o in operators}
    conditions = CONDITIONS.model_copy(update={"input": space.size})
    template = fake_table(micro_space()).file
    changes = {"entries": entries, "conditions": conditions}
    return LatencyTable(template.model_copy(update=changes), "fake.json")


def test_columns_are_the_layers_in_order():
    space = micro_space()
    columns = columns_of(derived(space), space=space)
    kinds = "stem block block attention block block head"
    assert [c.kind for c in columns] == kinds.split()
    assert [c.name for c in columns] == ["stem", "0", "1", "DCS", "2", "3", "head"]
    assert [c.x for c in columns] == list(range(7))
    assert [c.width for c in columns] == [4, 4, 8, 8, 12, 16, 8]
    assert [c.stride for c in columns] == [2, 1, 2, 1, 1, 1, 1]
    assert [c.size for c in columns] == [(8, 4), (8, 4), *[(4, 2)] * 5]
    assert [c.expansion for c in columns] == [None, 1, 3, None, 3, 2, None]
    assert [c.width_options for c in columns] == [(), (), (4, 8), (), (4, 8, 12), (8, 16), ()]
    assert [c.expansion_options for c in columns] == [(), (), (1.5, 3), (), (1.5, 2, 3), (), ()]
    assert {c.ms for c in columns} == {c.percent for c in columns} == {None}


def test_latency_shares_sum_to_all_of_it():
    space = micro_space()
    architecture = derived(space)
    columns = columns_of(architecture, table=fake_table(space))
    naive = list(map(fake_ms, walk(architecture.network.layers, (16, 8))))
    assert [c.ms for c in columns] == pytest.approx(naive)
    assert sum(c.percent or 0.0 for c in columns) == pytest.approx(100)
    shares = kind_shares(columns)
    assert list(shares) == ["stem", "block", "attention", "head"]
    assert sum(shares.values()) == pytest.approx(100)
    assert shares["attention"] == pytest.approx(100 * naive[3] / sum(naive))


def test_a_space_that_is_not_the_architectures_is_refused():
    other = micro_space(name="other")
    with pytest.raises(UserError, match=r"derived from space micro .* not from other"):
        plot_architecture(derived(micro_space()), space=other)


def test_a_table_for_another_input_is_refused():
    space = SearchSpace.load(find_space("tiny"))
    with pytest.raises(UserError, match="measured for input 16x8, asked for 64x32"):
        plot_architecture(largest(space), table=fake_table(micro_space()))


def test_picture_of_a_small_network():
    space = micro_space()
    architecture = derived(space)
    figure = plot_architecture(architecture, table=fake_table(space), space=space)
    widths, expansions, latencies = figure.axes
    assert bars(widths, "chosen") == {0: 4, 1: 4, 2: 8, 4: 12, 5: 16}
    assert bars(widths, "options") == {0: 0, 1: 0, 2: 4, 4: 8, 5: 8}
    assert bars(expansions, "chosen") == {1: 1, 2: 3, 4: 3, 5: 2}
    assert bars(expansions, "options") == {1: 0, 2: 1.5, 4: 1.5, 5: 0}
    assert list(bars(latencies, "latency")) == list(range(7))
    assert sum(bars(latencies, "latency").values()) == pytest.approx(
        architecture.provenance.predicted_latency_ms
    )
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "output width (channels)",
        "expansion ratio (\u00d7)",
        "predicted latency (ms)",
    ]
    names = [tick.get_text() for tick in latencies.get_xticklabels()]
    kernels = {"stem": 3, "0": 3, "1": 3, "2": 3, "3": 3}
    expected = ["stem", "0", "1", "DCS", "2", "3", "head"]
    assert names == [f"{n}\n{k}\u00d7{k}" if (k := kernels.get(n)) else n for n in expected]
    texts = [text.get_text() for text in texts_of(figure)]
    assert {"8\u00d74", "4\u00d72", "DCS 8", "head, 8 features"} <= set(texts)
    assert sum(text.endswith("%") and text[0].isdigit() for text in texts) == 7
    assert "micro: architecture, seed 7" in texts
    facts = next(text for text in texts if "parameters" in text)
    assert "MACs at 16\u00d78" in facts
    assert "ms predicted on fake, 1 thread, batch 1, float32, eager" in facts.replace("\n", " ")


def test_a_choice_of_attention_shows_what_was_chosen_of_what():
    settings = {"kind": ["none", "sa"], "affinity": "dot", "scale": "cosine", "tau": 1.0}
    space = micro_space(attention=settings)
    architecture = derived(space)
    (attention,) = [c for c in columns_of(architecture, space=space) if c.kind == "attention"]
    assert (attention.name, attention.kind_options) == ("SA", ("none", "SA"))
    assert (attention.width_options, attention.expansion_options) == ((), ())
    figure = plot_architecture(architecture, table=fake_table(space), space=space)
    assert "SA 8" in [text.get_text() for text in texts_of(figure)]
    assert figure.axes[-1].get_xlabel().endswith("\nattention: one of none, SA")
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_nothing_in_the_place_of_attention():
    settings = {"kind": ["none", "sa"], "affinity": "dot", "scale": "cosine", "tau": 1.0}
    space = micro_space(attention=settings)
    choice = {**largest_choice(space), "a0_kind": "none"}
    origin = Provenance(space=space.name, space_digest=space.digest, choice=choice, seed=0)
    architecture = describe(space.architecture(choice), space.size, origin)
    figure = plot_architecture(architecture, table=fake_table(space), space=space)
    texts = [text.get_text() for text in texts_of(figure)]
    assert "no attention" in texts
    assert "0.0%" not in texts
    assert texts.count("none") == 1
    assert overlapping(figure) == []


def test_picture_without_a_table_and_a_space():
    figure = plot_architecture(derived(micro_space()))
    widths, expansions = figure.axes
    assert set(bars(widths, "options").values()) == {0}
    assert list(bars(expansions, "chosen")) == [1, 2, 4, 5]
    texts = [text.get_text() for text in texts_of(figure)]
    assert any("ms predicted" in text for text in texts)
    assert not any("range of the options" in text for text in texts)


@pytest.mark.parametrize("name", ["tiny", "fbnetv2", "fbnetv2_xlarge"])
def test_no_text_lies_on_another(name: str):
    space = SearchSpace.load(find_space(name))
    architecture = largest(space)
    figure = plot_architecture(architecture, table=table_for(space, architecture), space=space)
    assert len(texts_of(figure)) > 3 * space.num_blocks
    assert overlapping(figure) == []
    assert outside(figure) == []
