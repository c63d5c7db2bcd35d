"""Which shape of theta gives the papers' sizes: the table of docs/papers.md, computed again."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dcsnas.spaces.layers import Attention

PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
MILLION = 1e6


class Published(NamedTuple):
    """A network of Table I (2025): parameters without attention, and as reported with DCS."""

    base: float
    reported: float
    half_unit: float
    """Of the last digit that is reported, in millions."""
    channels: tuple[int, ...]
    convolutional: bool = True


MOBILE = (24, 32, 96, 320)
NETWORKS = {
    "MobileNetV2": Published(2_223_872, 2.31, 0.005, MOBILE),
    "MobileNetV2-200": Published(5_088_128, 5.32, 0.005, MOBILE),
    "OSNet": Published(2_169_508, 2.33, 0.005, (256, 384, 512)),
    "ResNet50": Published(23_508_032, 23.9, 0.05, (256, 512, 1024, 2048)),
    "HRNet-W32": Published(30.5e6, 32.1, 0.05, (128, 256, 512, 1024)),
    "TransReID": Published(99_992_832, 101.6, 0.05, (768,) * 12, convolutional=False),
}
SHAPES: dict[str, Any] = {"full": "full", "rank 64": {"rank": 64}}


def size_of(network: Published, theta: Any, shape: str) -> float:
    """Return the parameters in millions with the theta of ``shape`` at every position."""
    total = network.base
    for channels in network.channels:
        narrow = channels < 64
        if shape == "per head":
            heads = 1 if narrow else channels // 64
            total += heads * (channels // heads) * (channels // heads + 1)
            total += 11 * channels if network.convolutional else 0
            continue
        own = {"dcs": {"theta": "full" if narrow else theta}}
        layer = Attention(
            kind="dcs", channels=channels, affinity="dot", scale="cosine", tau=1.0, arguments=own
        )
        (unit,) = layer.units((8, 4))
        # in a transformer the mask is all that is added: no depthwise convolution, no BatchNorm
        total += unit.params - (0 if network.convolutional else 11 * channels)
    return total / MILLION


def implied(network: Published) -> tuple[float, float]:
    """Return the least and the most parameters of theta per squared channel that would fit."""
    squares = sum(c**2 for c in network.channels)
    path = 11 * sum(network.channels) if network.convolutional else 0
    base = (network.base + path) / MILLION
    ends = (network.reported - network.half_unit, network.reported + network.half_unit)
    low, high = ((end - base) * MILLION / squares for end in ends)
    return low, high


def table() -> dict[str, list[str]]:
    """Return the rows of the page's table by network."""
    section = PAGE.read_text().partition("## The shape of theta")[2]
    rows = re.findall(r"^\| ([\w-]+) \|(.*)\|$", section, re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_page_says_what_is_computed(name: str) -> None:
    network = NETWORKS[name]
    full, low = (size_of(network, theta, shape) for shape, theta in SHAPES.items())
    low_end, high_end = implied(network)
    assert table()[name] == [
        f"{network.reported:g}", f"{full:.2f}", f"{low:.2f}",
        f"{size_of(network, None, 'per head'):.2f}", f"{low_end:.2f} to {high_end:.2f}",
    ]  # fmt: skip


def test_no_shape_gives_more_than_one_of_the_sizes() -> None:
    for shape, theta in {**SHAPES, "per head": None}.items():
        fits = [
            name
            for name, network in NETWORKS.items()
            if abs(size_of(network, theta, shape) - network.reported) <= network.half_unit
        ]
        assert len(fits) <= 1, (shape, fits)


def test_no_formula_of_a_stage_gives_both_mobilenets() -> None:
    """They have the same widths at their stage ends, so the same theta."""
    first, second = (implied(NETWORKS[name]) for name in ("MobileNetV2", "MobileNetV2-200"))
    assert first[1] < second[0]
