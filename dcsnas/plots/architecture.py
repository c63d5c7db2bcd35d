"""A derived network at a glance: widths, expansions, resolutions, attention, and its latency."""

from collections.abc import Callable, Sequence
from itertools import groupby

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

from dcsnas.latency.table import LatencyTable
from dcsnas.plots.columns import Column, Kind, columns_of, kind_shares
from dcsnas.plots.style import (
    BLUE,
    GREY,
    INK,
    LABEL,
    MUTED,
    RED,
    SMALL,
    TIMES,
    TINY,
    clean,
    digits,
    draw_options,
    new_figure,
    note,
    si,
)
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace

COLORS = {"stem": GREY, "block": BLUE, "attention": RED, "trunk": BLUE, "head": GREY}
NAMES = {kind: "blocks" if kind == "block" else kind for kind in COLORS}
_DENSE = 40  # columns above which numbers stand upright


def plot_architecture(
    architecture: ArchitectureFile,
    *,
    table: LatencyTable | None = None,
    space: SearchSpace | None = None,
) -> Figure:
    """Draw a network layer by layer: output widths, expansions and, with a table, latencies.

    ``space`` adds what there was to choose from, as light bars. Raises UserError where the table
    or the space is not the architecture's.
    """
    columns = columns_of(architecture, table=table, space=space)
    panels: list[tuple[float, Callable[[Axes, Sequence[Column]], None]]] = [(1.5, _draw_widths)]
    if any(column.kind == "block" for column in columns):
        panels.append((0.9, _draw_expansions))
    if table is not None:
        panels.append((1.3, _draw_latencies))
    width = min(16.0, max(7.5, 1.2 + 0.36 * len(columns)))
    height = 1.2 + 1.25 * sum(size for size, _ in panels)
    title = f"{architecture.provenance.space}: architecture, seed {architecture.provenance.seed}"
    figure = new_figure(width, height, title=title, subtitle=_facts(architecture, columns, table))
    ratios = [size for size, _ in panels]
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    for one, (_, draw) in zip(axes, panels, strict=True):
        draw(one, columns)
        _draw_resolutions(one, columns)
    _name_resolutions(axes[0], columns)
    _name_columns(axes[-1], columns)
    figure.align_ylabels(list(axes))
    return figure


def _facts(
    architecture: ArchitectureFile, columns: Sequence[Column], table: LatencyTable | None
) -> str:
    height, width = architecture.input
    facts = [
        f"{si(architecture.params)} parameters",
        f"{si(architecture.macs)} MACs at {height}{TIMES}{width}",
    ]
    if architecture.memory_bytes is not None:
        facts.append(f"{si(architecture.memory_bytes)}B peak memory")
    predicted = architecture.provenance.predicted_latency_ms
    if table is not None:
        on = table.file.conditions
        total = sum(column.ms or 0.0 for column in columns)
        threads = f"{on.threads} thread{'s' * (on.threads > 1)}, " if on.device == "cpu" else ""
        where = f"{on.device_name}, {threads}batch {on.batch}, {on.dtype}, {on.backend}"
        facts.append(f"{digits(total)} ms predicted on {where}")
    elif predicted is not None:
        facts.append(f"{digits(predicted)} ms predicted")
    return " · ".join(facts)


def _draw_widths(axes: Axes, columns: Sequence[Column]) -> None:
    clean(axes, y="output width\n(channels)")
    attention = [c for c in columns if c.kind == "attention"]
    shown = [c for c in columns if c.kind in ("stem", "block")] or attention
    _draw_choices(axes, shown, [c.width for c in shown], [c.width_options for c in shown])
    top = max(max(c.width_options, default=c.width) for c in shown)
    axes.set_ylim(0, top * (1.22 if _dense(columns) else 1.12))
    for column in columns:
        if column.kind == "attention" and shown is not attention:
            nothing = not column.runs
            axes.axvline(column.x, color=GREY if nothing else RED, linewidth=1.2, ymax=0.86)
            text = "no attention" if nothing else f"{column.name} {column.width}"
            _upright(axes, column.x, top / 2, text, color=MUTED if nothing else RED)
        elif column.kind in ("head", "trunk"):
            text = f"{column.name}, {column.width:,} features"
            _upright(axes, column.x, top / 2, text, color=MUTED)


def _draw_expansions(axes: Axes, columns: Sequence[Column]) -> None:
    clean(axes, y=f"expansion\nratio ({TIMES})")
    blocks = [c for c in columns if c.kind == "block"]
    values = [c.expansion or 0.0 for c in blocks]
    _draw_choices(axes, blocks, values, [c.expansion_options for c in blocks])
    top = max(max(c.expansion_options, default=v) for c, v in zip(blocks, values, strict=True))
    axes.set_ylim(0, top * (1.45 if _dense(columns) else 1.2))


def _draw_choices(
    axes: Axes,
    columns: Sequence[Column],
    values: Sequence[float],
    options: Sequence[Sequence[float]],
) -> None:
    """Draw values as bars over the range of their options, each with its number."""
    dense = _dense(columns)
    x = [c.x for c in columns]
    draw_options(axes, x, options, 0.86)
    colors = [COLORS[c.kind] if c.runs else GREY for c in columns]
    axes.bar(x, values, 0.5, color=colors, label="chosen")
    size = TINY if dense or len(columns) > 12 else SMALL
    for column, value in zip(columns, values, strict=True):
        _on_top(axes, column.x, value, f"{value:g}", size=size, dense=dense)


def _draw_latencies(axes: Axes, columns: Sequence[Column]) -> None:
    clean(axes, y="predicted\nlatency (ms)")
    dense = _dense(columns)
    times = [c.ms or 0.0 for c in columns]
    colors = [COLORS[c.kind] for c in columns]
    axes.bar([c.x for c in columns], times, 0.7, color=colors, label="latency")
    axes.set_ylim(0, max(times) * (1.3 if dense else 1.15))
    size = TINY if dense or len(columns) > 14 else SMALL
    for column in columns:
        text = f"{column.percent:.1f}%" if column.runs else ""
        _on_top(axes, column.x, column.ms or 0.0, text, size=size, dense=dense)
    parts: list[Artist] = []
    for kind, percent in kind_shares(columns).items():
        look = {"color": BLUE if kind == "block" else _ink(kind), "weight": "bold"}
        text = f"{NAMES[kind]} {percent:.1f}%"
        parts.append(TextArea(text, textprops={"size": SMALL, **look}))
    row = HPacker(children=parts, pad=0, sep=10)
    above = {"bbox_to_anchor": (0, 1), "bbox_transform": axes.transAxes, "borderpad": 0}
    axes.add_artist(AnchoredOffsetbox("lower left", child=row, frameon=False, pad=0.1, **above))


def _draw_resolutions(axes: Axes, columns: Sequence[Column]) -> None:
    axes.set_xlim(-0.7, len(columns) - 0.3)
    for column in columns[1:]:
        if column.stride > 1:
            axes.axvline(column.x - 0.5, color=GREY, linewidth=0.7, linestyle=(0, (3, 2)))


def _name_resolutions(axes: Axes, columns: Sequence[Column]) -> None:
    """Write over each run of layers the resolution at which they put out."""
    for size, members in groupby(columns, key=lambda c: c.size):
        xs = [c.x for c in members]
        middle, above = ((xs[0] + xs[-1]) / 2, 1.0), axes.get_xaxis_transform()
        look = {"xycoords": above, "ha": "center", "annotation_clip": False}
        note(axes, f"{size[0]}{TIMES}{size[1]}", middle, (0, 3), **look)


def _name_columns(axes: Axes, columns: Sequence[Column]) -> None:
    rotation = 90 if _dense(columns) else 0
    axes.set_xticks([c.x for c in columns], [_tick(c, upright=rotation > 0) for c in columns])
    axes.tick_params(axis="x", labelsize=TINY if _dense(columns) else SMALL, length=0)
    for tick, column in zip(axes.get_xticklabels(), columns, strict=True):
        tick.set_color(_ink(column.kind) if column.runs else MUTED)
        tick.set_rotation(rotation)
    explained = f"above: output height {TIMES} width"
    if any(c.kind == "block" for c in columns):
        explained = f"blocks by number and kernel; {explained}; dashed: stride 2"
    if any(c.width_options for c in columns):
        explained += "; light: range of the options"
    attention = {c.kind_options for c in columns if c.kind_options}
    explained += "".join(f"\nattention: one of {', '.join(names)}" for names in sorted(attention))
    axes.set_xlabel(explained, **LABEL)


def _tick(column: Column, *, upright: bool) -> str:
    """Return a layer's name, and its kernel beyond that as seen from the axis."""
    if not column.kernel:
        return column.name
    kernel = f"{column.kernel}{TIMES}{column.kernel}"
    return f"{kernel}  {column.name}" if upright else f"{column.name}\n{kernel}"


def _on_top(axes: Axes, x: float, y: float, text: str, *, size: float, dense: bool) -> None:
    look = {"size": size, "ha": "center", "va": "bottom", "rotation": 90 if dense else 0}
    note(axes, text, (x, y), (0, 1.5), **look)


def _upright(axes: Axes, x: float, y: float, text: str, *, color: str) -> None:
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    middle = {"ha": "center", "va": "center", "rotation": 90}
    axes.annotate(text, (x, y), size=TINY, color=color, bbox=box, **middle)


def _ink(kind: Kind) -> str:
    """Return the colour of text about ``kind``: as its bars, but never too pale to read."""
    return {"block": INK, "attention": RED}.get(kind, MUTED)


def _dense(columns: Sequence[Column]) -> bool:
    return len(columns) > _DENSE
