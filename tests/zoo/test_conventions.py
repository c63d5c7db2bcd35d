"""Counts under others' conventions against what they published, and against their programs."""

import pytest

from dcsnas.spaces.space import SearchSpace, load_space
from dcsnas.zoo.conventions import CONVENTIONS, count_under

REID = (256, 128)


# the papers' tables, G: 2022 Table 1 and 4, 2025 Table I; the module of 2022 has no theta (``sa``)
@pytest.mark.parametrize(
    ("name", "kind", "size", "published"),
    [
        ("mobilenetv2_100", "none", REID, 0.380),
        ("mobilenetv2_100", "sa", REID, 0.382),
        ("mobilenetv2_200", "sa", REID, 0.884),
    ],
)
def test_the_papers_numbers(name: str, kind: str, size: tuple[int, int], published: float) -> None:
    found = count_under("papers", load_space(name, kind).any_architecture, size)
    assert found.macs / 1e9 == pytest.approx(published, abs=1e-3)


def test_the_papers_count_to_the_unit() -> None:
    """380,076,032: 349,962,240 products, 4 x 5,169,152 normalised, an expansion of 9,437,184."""
    for stride in (32, 16):  # at stride 16 in any case
        file = load_space("mobilenetv2_100", "none").file
        space = SearchSpace(file.model_copy(update={"output_stride": stride}))
        assert count_under("papers", space.any_architecture, REID).macs == 380_076_032


@pytest.mark.parametrize(
    ("name", "params"),
    # a gate is counted for each of its four streams: shared/design/zoo.md, section 1
    [("osnet_x1_0", 2_193_616), ("mobilenetv2_100", 2_223_872)],
)
def test_torchreid_counts_a_module_each_time_it_runs(name: str, params: int) -> None:
    assert (
        count_under("torchreid", load_space(name, "none").any_architecture, REID).params == params
    )


def test_torchreid_counts_biases_and_no_attention() -> None:
    plain, sa, dcs = (
        count_under("torchreid", load_space("mobilenetv2_100", kind).any_architecture, REID).macs
        for kind in ("none", "sa", "dcs")
    )
    tokens = [(24, 2048), (32, 512), (96, 128), (320, 32)]
    assert sa - plain == sum(9 * c * n for c, n in tokens)  # the depthwise convolutions alone
    assert dcs - sa == sum((c + 1) * c * n for c, n in tokens)  # theta with its bias


def test_fvcore_is_fvcore() -> None:
    """Its own count of timm's network: 2 an element of BatchNorm beside the products."""
    space = load_space("mobilenetv2_100", "none")
    found = count_under("fvcore", space.any_architecture, (224, 224))
    classifier = 1281 * 1000
    assert (found.params + classifier) == 3_504_872
    own = count_under("dcsnas", space.any_architecture, (224, 224))
    assert found.macs > own.macs
    assert found.params == own.params


@pytest.mark.parametrize("name", ["tiny", "fbnetv2"])
def test_chains_are_counted_as_well(name: str) -> None:
    space = load_space(name, "dcs")
    network = space.any_architecture
    counted = {c: count_under(c, network, space.size) for c in CONVENTIONS}
    cost = network.cost(space.size)
    assert (counted["dcsnas"].params, counted["dcsnas"].macs) == (cost.params, cost.macs)
    assert counted["torchreid"].params == cost.params
    assert counted["papers"].macs > counted["torchreid"].macs
