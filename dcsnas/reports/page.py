"""``dcsnas report``: several runs on one page that needs no server and asks nobody for anything."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dcsnas import __version__
from dcsnas.config.files import read_text, write_text
from dcsnas.config.outputs import output
from dcsnas.plots.records import metric_text
from dcsnas.reports import charts
from dcsnas.reports.comparison import configurations_of, lines_of, scatter_charts, verdicts_of
from dcsnas.reports.curves import charts_of
from dcsnas.reports.experiments import is_experiment, read_sweep
from dcsnas.reports.networks import networks_of, tables_of
from dcsnas.reports.pictures import gallery_of, pictures_of
from dcsnas.reports.run_records import read_run

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"


def write_page(paths: Sequence[Path], out: Path, *, force: bool = False) -> None:
    """Write a page on the run and experiment folders ``paths`` to ``out``.

    Raises UserError where a folder is no run, is of a newer version, or holds a broken file, and
    where ``out`` exists already and ``force`` is not given; nothing is written then.
    """
    with output(out, force=force):
        write_text(out, render(paths, title=out.stem))


def render(paths: Sequence[Path], *, title: str) -> str:
    """Return the page's HTML; raises UserError as ``write_page`` does."""
    distinct = list({path.resolve(): path for path in paths}.values())
    labels = labels_of(distinct)
    experiments = [path for path in distinct if is_experiment(path)]
    runs = [(labels[path], read_run(path)) for path in distinct if path not in experiments]
    sweeps = [read_sweep(labels[path], path) for path in experiments]
    records = [run for _, run in runs]
    tables = tables_of(records)
    environment = lines_of([_shortened(run.environment) for run in records])
    galleries = [gallery_of(label, run.path) for label, run in runs]
    content = {
        "title": title,
        "version": __version__,
        "made": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "runs": runs,
        "sweeps": sweeps,
        "configurations": configurations_of(runs),
        "environment": [[line.key + "*" * line.differs, *line.values] for line in environment],
        "curves": charts_of(runs),
        "networks": networks_of(runs, tables),
        "scatters": [*scatter_charts(runs), *(one.chart for one in sweeps if one.chart)],
        "pictures": [(label, run, pictures_of(run.path)) for label, run in runs],
        "galleries": [gallery for gallery in galleries if gallery],
        "verdicts": verdicts_of(runs, tables.values()),
    }
    return _environment().get_template(TEMPLATE).render(content)


def labels_of(paths: Sequence[Path]) -> dict[Path, str]:
    """Return what each folder is called: the fewest last parts of its path that no other has."""
    parts = {path: path.resolve().parts for path in paths}
    labels = {}
    for path, own in parts.items():
        others = [other for key, other in parts.items() if key != path]
        count = 1
        while count < len(own) and any(own[-count:] == other[-count:] for other in others):
            count += 1
        labels[path] = "/".join(own[-count:])
    return labels


def _shortened(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was started with, its commit in as many digits as git prints."""
    commit, _, changed = str(environment.get("commit") or "").partition("-")
    return {**environment, "commit": commit[:12] + f"-{changed}" * bool(changed) or None}


def _environment() -> Environment:
    """Return what renders the template, in which all that comes from files is escaped."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "charts": charts,
        "style": read_text(HERE / STYLE),
        "script": read_text(HERE / SCRIPT),
    }
    made.filters["metric"] = metric_text
    return made
