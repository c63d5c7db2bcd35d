"""Every picture of a run folder, saved in its ``plots`` folder."""

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.stages import VariantConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import read_reid
from dcsnas.latency.table import load_table
from dcsnas.plots.ablation import plot_ablation
from dcsnas.plots.architecture import plot_architecture
from dcsnas.plots.confusion import plot_confusion
from dcsnas.plots.curves import plot_cmc, plot_training_curves
from dcsnas.plots.eta import plot_eta
from dcsnas.plots.evolution import animate_evolution, plot_evolution
from dcsnas.plots.gallery import plot_ranked_gallery
from dcsnas.plots.probabilities import plot_probabilities
from dcsnas.plots.search_curves import plot_search_curves
from dcsnas.plots.style import save
from dcsnas.spaces.architecture import load_architecture
from dcsnas.spaces.space import SearchSpace

Draw = Callable[[Path], Figure]


def plot_run(run: Path) -> list[Path]:
    """Draw every picture that the run folder ``run`` supports and return the files.

    They lie under ``run/plots`` as PNG, what is made of lines as SVG too, what moves as GIF. Raises
    UserError where the folder is no run, supports no picture yet, or holds a broken file.
    """
    stage, task = _stage_and_task(run)
    pictures = {name: draw for name, (file, draw) in PICTURES[stage].items() if _holds(run / file)}
    if task != "reid":
        pictures = {name: draw for name, draw in pictures.items() if name not in OF_RETRIEVAL}
    if not pictures:
        files = ", ".join(sorted({file for file, _ in PICTURES[stage].values()}))
        raise UserError(
            f"{run}: a {stage} run with nothing to draw yet; pictures need one of {files}: "
            "plot again after its first epoch"
        )
    written = []
    for name, draw in pictures.items():
        figure = draw(run)
        kinds = ["png"] if name in BITMAPS else ["png", "svg"]
        written += [save(figure, run / "plots" / f"{name}.{kind}") for kind in kinds]
        if name == "evolution":
            written.append(animate_evolution(run, run / "plots" / "evolution.gif"))
    return written


def draw_architecture(run: Path) -> Figure:
    """Draw ``architecture.yaml`` with what the run knows of its space and its latencies."""
    space, table = run / "space.yaml", run / "table.json"
    return plot_architecture(
        load_architecture(run / "architecture.yaml"),
        table=load_table(table, expected=None) if table.exists() else None,
        space=SearchSpace.load(space) if space.exists() else None,
    )


def draw_gallery(run: Path) -> Figure:
    """Draw queries with their nearest gallery images, as ``evaluate`` ranked them."""
    path = run / "neighbours.json"
    ranking = read_json(path)
    variant = validate(VariantConfig, ranking.get("variant", {}), path)
    data = read_reid(Path(ranking.get("data", "")), variant)
    try:
        neighbours = torch.tensor(ranking["neighbours"])
        return plot_ranked_gallery(data.query, data.gallery, neighbours=neighbours)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: does not fit {data.root} ({error}); evaluate again") from None


BITMAPS = ("probabilities", "gallery", "confusion")
OF_RETRIEVAL = ("retrieval", "gallery")
PICTURES: dict[str, dict[str, tuple[str, Draw]]] = {
    "search": {
        "curves": ("metrics.jsonl", plot_search_curves),
        "probabilities": ("probabilities.jsonl", plot_probabilities),
        "evolution": ("probabilities.jsonl", plot_evolution),
        "architecture": ("architecture.yaml", draw_architecture),
    },
    "pretrain": {"curves": ("metrics.jsonl", plot_training_curves)},
    "retrain": {
        "curves": ("metrics.jsonl", plot_training_curves),
        "retrieval": ("metrics.json", plot_cmc),
        "gallery": ("neighbours.json", draw_gallery),
        "confusion": ("confusion.csv", plot_confusion),
        "architecture": ("architecture.yaml", draw_architecture),
    },
    "detect-train": {
        "curves": ("metrics.jsonl", plot_training_curves),
        "architecture": ("architecture.yaml", draw_architecture),
    },
    "detect-search": {"curves": ("metrics.jsonl", plot_training_curves)},
    "tune-eta": {"eta": ("eta.json", plot_eta)},
    "ablate": {"ablation": ("ablation.json", plot_ablation)},
}
"""By stage and name: the file that a picture needs, and what draws it."""


def _stage_and_task(run: Path) -> tuple[str, str]:
    config = run / "config.yaml"
    if not config.is_file():
        problem = "holds no config.yaml" if run.is_dir() else "no such folder"
        raise UserError(
            f"{run}: {problem}; give the run folder of a {', '.join(PICTURES)} stage, "
            "such as runs/search-0000-search_tiny"
        )
    content = read_yaml(config)
    stage = content.get("stage")
    if not isinstance(stage, str) or stage not in PICTURES:
        raise UserError(
            f"{config}: stage: {stage!r} has no pictures; stages that do: {', '.join(PICTURES)}"
        )
    return stage, content.get("task", "reid")  # which those of older versions do not name


def _holds(path: Path) -> bool:
    """Return whether there is something to draw: of a log, at least one complete line."""
    if path.suffix == ".jsonl":
        return path.is_file() and bool(read_records(path))
    return path.is_file()
