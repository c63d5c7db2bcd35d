"""An ablation's scores run by run, and each variant's gain with its 95 % interval."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.plots.style import (
    BLUE,
    GREY,
    INK,
    LEAST_POINTS,
    LIGHT,
    MUTED,
    SMALL,
    apart,
    clean,
    new_figure,
    note,
)

_ROW_IN = 0.36


def plot_ablation(run: Path) -> Figure:
    """Draw ``ablation.json`` of a run of ablate; raises UserError where it is missing or broken."""
    path = run / "ablation.json"
    content = read_json(path)
    try:
        return _draw(content)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not what dcsnas ablate writes ({error!r}); run it again"
        ) from None


def _draw(content: dict[str, Any]) -> Figure:
    label, rows = content["label"], [row for row in content["rows"] if row["seeds"]]
    if not rows:
        raise UserError("ablation.json: no network was trained, so there is nothing to draw")
    seeds = max(row["seeds"] for row in rows)
    facts = f"{content['data']} \u00b7 {content['epochs']} epochs \u00b7 {seeds} seed"
    title = f"Ablation: {label} of {len(rows)} variants"
    compared = any(row["difference"] is not None for row in rows)
    figure = new_figure(
        8.4, 1.5 + _ROW_IN * len(rows), title=title, subtitle=facts + "s" * (seeds > 1)
    )
    panels = figure.subplots(1, 1 + compared, sharey=True, squeeze=False)[0]
    _draw_scores(panels[0], content, rows)
    if compared:
        _draw_gains(panels[1], rows, label)
    panels[0].set_yticks(range(len(rows)), [row["variant"] for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _draw_scores(axes: Axes, content: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Draw each run as a dot beside the mean of its variant."""
    metric = content["metric"]
    place = {row["variant"]: number for number, row in enumerate(rows)}
    clean(axes, x=f"{content['label']} (%)")
    _rule_rows(axes, len(rows))
    runs = content["runs"]
    heights = [place[run["variant"]] for run in runs]
    look: dict[str, Any] = {"linestyle": "", "marker": "o"}
    axes.plot([run[metric] for run in runs], heights, markersize=3, color=GREY, label="run", **look)
    means = [row[f"{metric}_mean"] for row in rows]
    axes.plot(means, range(len(rows)), markersize=5.5, color=BLUE, label="mean", **look)
    for number, mean in enumerate(means):
        look = {"color": BLUE, "weight": "bold", "ha": "center"}
        note(axes, f"{mean:.1f}", (mean, number), (0, 5), **look)
    axes.set_xlim(apart(axes.get_xlim(), LEAST_POINTS))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK, loc="best")


def _draw_gains(axes: Axes, rows: list[dict[str, Any]], label: str) -> None:
    """Draw the differences of runs with the same seed, and their 95 % intervals."""
    clean(axes, x=f"difference of {label} (points), 95 % interval")
    _rule_rows(axes, len(rows))
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
    for number, row in enumerate(rows):
        if row["difference"] is None:
            continue
        gain, half = row["difference"], row["difference_95"]
        color = BLUE if abs(gain) > half else GREY
        look = {"marker": "o", "markersize": 5, "capsize": 3, "elinewidth": 1.2, "color": color}
        axes.errorbar([gain], [number], xerr=[half], **look)
        note(axes, f"{gain:+.1f} against {row['against']}", (gain, number), (0, 5), ha="center")
    axes.tick_params(labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _rule_rows(axes: Axes, count: int) -> None:
    for number in range(count):
        axes.axhline(number, color=LIGHT, linewidth=0.8, zorder=0)
