"""Run folders with known contents, and what a drawn figure shows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dcsnas.config.files import write_json, write_yaml
from dcsnas.latency.table import save_table
from dcsnas.search.derive import architecture_of, most_probable
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.spaces.space import SearchSpace
from latency_fakes import fake_table, micro_space


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write a ``.jsonl`` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def moving(options: int, share: float) -> list[float]:
    """Return probabilities that are uniform at ``share`` 0 and all on the last option at 1."""
    row = [(1 - share) / options] * options
    row[-1] += share
    return row


def probability_lines(space: SearchSpace, *, epochs: int = 4) -> list[dict[str, Any]]:
    """Return a search's probabilities, which move to every last option at a constant pace."""
    return [
        {"epoch": done} | {d.label: moving(len(d.options), done / epochs) for d in space.decisions}
        for done in range(epochs + 1)
    ]


def metric_line(epoch: int, *, architecture: bool = True) -> dict[str, float]:
    """Return the metrics of a search's epoch, from 0, each another number."""
    names = ["cross_entropy", "triplet", "ibb", "loss"]
    line: dict[str, float] = {"epoch": epoch + 1}
    line |= {f"weights/{n}": 4.0 - i - 0.1 * epoch for i, n in enumerate(names)}
    if architecture:
        line |= {f"architecture/{n}": 5.0 - i - 0.1 * epoch for i, n in enumerate(names)}
        line |= {"expected_latency_ms": 2.0 - 0.25 * epoch, "cost_term": 0.1 - 0.01 * epoch}
        line |= {"temperature": 5.0 * 0.5**epoch}
    line |= {"entropy": 1.0 - 0.125 * epoch, "most_probable_latency_ms": 1.5 - 0.25 * epoch}
    return line


def derived(space: SearchSpace) -> ArchitectureFile:
    """Return the network of every last option, for the fake device."""
    last = {d.label: moving(len(d.options), 1.0) for d in space.decisions}
    choice = most_probable(space, last)
    return architecture_of(space, choice, table=fake_table(space), seed=7)


def write_search_run(root: Path, space: SearchSpace | None = None, *, epochs: int = 4) -> Path:
    """Write a finished search with a derived network under ``root`` and return its folder."""
    space, run = space or micro_space(), root / "search-0000-micro"
    write_lines(run / "probabilities.jsonl", probability_lines(space, epochs=epochs))
    write_lines(run / "metrics.jsonl", [metric_line(epoch) for epoch in range(epochs)])
    content = {"stage": "search", "space": space.name, "epochs": epochs, "strategy": "fbnetv2"}
    objective = {"form": "add", "cost": "latency", "weight": 0.1}
    write_yaml(run / "config.yaml", {**content, "objective": objective, "run": {"seed": 7}})
    write_yaml(run / "space.yaml", space.file.model_dump(mode="json"))
    save_table(run / "table.json", fake_table(space).file)
    save_architecture(run / "architecture.yaml", derived(space))
    write_json(run / "result.json", {"initial_latency_ms": 2.5, "final_latency_ms": 1.25})
    return run


def write_retrain_run(root: Path) -> Path:
    """Write an evaluated retrain run of 3 epochs, the first one with a held backbone."""
    run = root / "retrain-0000-micro"
    losses = [{"cross_entropy": 3.0 - e, "triplet": 0.5, "ibb": 0.25 * e} for e in range(3)]
    lines = [{"epoch": e + 1, **loss, "loss": sum(loss.values())} for e, loss in enumerate(losses)]
    write_lines(run / "metrics.jsonl", lines)
    write_yaml(run / "config.yaml", {"stage": "retrain", "epochs": 3, "classifier_epochs": 1})
    save_architecture(run / "architecture.yaml", derived(micro_space()))
    protocol = {"metric": "cosine", "ap_rule": "plain", "camera_filter": True}
    scores = {"map": 48.25, "minp": 20.0, "cmc": [0.5, 0.625, 0.75, 0.75, 0.875, 1.0]}
    counts = {"query": 1200, "gallery": 4800}
    write_json(run / "metrics.json", {**scores, "protocol": protocol, "counts": counts})
    return run


def lines_of(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """Return the x and y of the lines in ``axes``."""
    pairs = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]
    return [(x.tolist(), y.tolist()) for x, y in pairs]


def texts_of(figure: Figure) -> list[Text]:
    """Return the texts of a drawn figure that can be seen."""
    figure.canvas.draw()
    ticks = [t for axes in figure.axes for t in _outside_ticks(axes)]
    found = [t for t in figure.findobj(Text) if isinstance(t, Text)]
    return [t for t in found if t.get_visible() and t.get_text().strip() and t not in ticks]


def _outside_ticks(axes: Axes) -> Sequence[Text]:
    """Return the labels of ticks beyond the limits, which are not drawn, and of hidden axes."""
    outside: list[Text] = []
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        low, high = sorted(limits)
        slack = 1e-9 * (high - low)
        hidden = not axes.axison or not axis.get_visible()
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if hidden or not low - slack <= tick.get_loc() <= high + slack:
                outside += [tick.label1, tick.label2]
    return outside


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts that lie on each other by more than half a point."""
    texts = texts_of(figure)
    slack = 0.5 * figure.dpi / 72
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    return [
        (first, second)
        for i, (first, a) in enumerate(boxes)
        for second, b in boxes[i + 1 :]
        if min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack
    ]


def outside(figure: Figure) -> list[str]:
    """Return the texts that reach beyond the paper."""
    width, height = figure.canvas.get_width_height()
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts_of(figure)]
    return [t for t, b in boxes if b.x0 < -1 or b.y0 < -1 or b.x1 > width + 1 or b.y1 > height + 1]
