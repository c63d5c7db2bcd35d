"""A network as a row of columns, one a layer: the values behind the architecture's picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dcsnas.config.errors import UserError
from dcsnas.latency.table import LatencyTable, per_layer_ms
from dcsnas.plots.records import option_text
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.layers import Attention, Block, Conv, Layer, Selection, Size, Trunk
from dcsnas.spaces.network import layer_sizes
from dcsnas.spaces.space import Decision, SearchSpace

Kind = Literal["stem", "block", "attention", "trunk", "head"]
KINDS: dict[str, Kind] = {
    "conv": "stem",
    "block": "block",
    "attention": "attention",
    "selection": "attention",
    "trunk": "trunk",
    "conv_head": "head",
    "pool_head": "head",
}
"""How pictures group layers, by their ``op``."""


@dataclass(frozen=True)
class Column:
    """One layer: position, output width and size, and what of it the space left open.

    ``size`` is (height, width) of the output; of a head, which pools, its input. ``kernel`` is that
    of the one convolution that sees more than a point, None where there is none. The name of an
    attention module says its kind: DCS, SA or none. ``runs`` is False for a chosen absence. ``ms``
    and ``percent`` (of the whole network) are None without a table.
    """

    x: int
    kind: Kind
    name: str
    width: int
    size: Size
    stride: int = 1
    kernel: int | None = None
    expansion: float | None = None
    width_options: tuple[float, ...] = ()
    expansion_options: tuple[float, ...] = ()
    kind_options: tuple[str, ...] = ()
    ms: float | None = None
    percent: float | None = None
    runs: bool = True


def columns_of(
    architecture: ArchitectureFile,
    *,
    table: LatencyTable | None = None,
    space: SearchSpace | None = None,
) -> list[Column]:
    """Return the layers of ``architecture`` in order.

    Raises UserError where ``table`` lacks one of its operators or ``space`` is not the one that the
    architecture was derived from.
    """
    origin = architecture.provenance
    if space is not None and space.digest != origin.space_digest:
        raise UserError(
            f"the architecture was derived from space {origin.space} ({origin.space_digest}), "
            f"not from {space.name} ({space.digest}); give the space.yaml of its search"
        )
    return columns_of_layers(
        architecture.network.layers, architecture.input, table=table, space=space
    )


def columns_of_layers(
    layers: Sequence[Layer],
    size: Size,
    *,
    table: LatencyTable | None = None,
    space: SearchSpace | None = None,
) -> list[Column]:
    """Return ``layers`` at an input of ``size`` in order; ``space`` is the one they are of."""
    decided = [slot.decided for slot in space.slots] if space else [{}] * len(layers)
    times: list[float] | list[None] = [None] * len(layers)
    if table is not None:
        times = per_layer_ms(table, layers, size)
    total = sum(ms for ms in times if ms is not None)
    block, columns = 0, []
    sizes = layer_sizes(layers, size)
    for x, (layer, here, ms) in enumerate(zip(layers, sizes, times, strict=True)):
        out = layer.out_size(here)
        kind, name = _named(layer, block)
        columns.append(
            Column(
                x=x,
                kind=kind,
                name=name,
                width=layer.widths[-1],
                size=here if kind in ("head", "trunk") else out,
                stride=layer.stride if isinstance(layer, Conv | Block) else 1,
                kernel=layer.kernel if isinstance(layer, Conv | Block) else None,
                expansion=layer.expansion if isinstance(layer, Block) else None,
                width_options=_options(decided[x], "c_out"),
                expansion_options=_options(decided[x], "expansion"),
                kind_options=_names(decided[x], "kind"),
                ms=ms,
                percent=None if ms is None else 100 * ms / total,
                runs=bool(layer.units(here)),
            )
        )
        block += kind == "block"
    return columns


def kind_shares(columns: Sequence[Column]) -> dict[Kind, float]:
    """Return the share of the latency that each kind of layer takes, in percent, in order."""
    shares: dict[Kind, float] = {}
    for column in columns:
        shares[column.kind] = shares.get(column.kind, 0.0) + (column.percent or 0.0)
    return shares


def _named(layer: Layer, block: int) -> tuple[Kind, str]:
    kind = KINDS[layer.op]
    if isinstance(layer, Attention | Selection):
        return kind, option_text(layer.kind)
    if isinstance(layer, Trunk):
        return kind, layer.backbone
    return kind, str(block) if kind == "block" else kind


def _options(decided: Mapping[str, Decision], argument: str) -> tuple[float, ...]:
    found = decided[argument].options if argument in decided else ()
    return tuple(option for option in found if not isinstance(option, str))


def _names(decided: Mapping[str, Decision], argument: str) -> tuple[str, ...]:
    return tuple(map(option_text, decided[argument].options)) if argument in decided else ()
