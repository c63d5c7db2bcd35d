"""Run folders for pages: evaluated, with a ranking, with names that could do harm."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from dcsnas.config.files import read_json, write_json, write_text, yaml_text
from dcsnas.experiments.settings import load_sweep
from experiment_setup import light_experiment, sweep_content, write_database
from plot_fakes import write_retrain_run, write_search_run
from reid_data import write_reid_set

HOSTILE = "a\"><img src=x onerror=alert(1)>'{{7*7}}&amp;"
"""A folder's name that does harm where it is not escaped."""
ENVIRONMENT = {
    "dcsnas": "0.2.0",
    "commit": "c" * 40 + "-dirty",
    "started": "2026-11-01T10:00:00+00:00",
    "python": "3.11.7",
    "packages": {"torch": "2.13.0"},
    "device": "a CPU",
}
VOID = {"meta", "link", "img", "input", "br"}
SHAPES = {"line", "path", "circle", "rect"}
"""Elements of SVG that end themselves."""


def write_runs(root: Path, *, name: str = "retrain-0001-other") -> list[Path]:
    """Write a search, and two evaluated trainings that differ in eta, with a data set.

    The second has ``name``.
    """
    data = write_reid_set(root / "people", identities=4)
    search, first = write_search_run(root / "runs"), write_retrain_run(root / "runs")
    second = write_retrain_run(root / "more").rename(root / "runs" / name)
    for run, eta, score in ((first, 0.1, 48.25), (second, 0.5, 51.5)):
        content = {"stage": "retrain", "task": "reid", "epochs": 3, "loss": {"eta": eta}}
        inputs = {"architecture": "a" * 16, "data": "d" * 16, "start": ""}
        text = yaml_text({**content, "inputs": inputs, "run": {"seed": 0}})
        write_text(run / "config.yaml", text)
        metrics = {**read_json(run / "metrics.json"), "map": score, "latency": latency(score / 10)}
        write_json(run / "metrics.json", metrics)
        neighbours = {"data": str(data), "variant": {}, "neighbours": [[0, 1, 2, -1]] * 8}
        write_json(run / "neighbours.json", neighbours)
        (run / "model.safetensors").touch()
    for run in (search, first, second):
        write_json(run / "environment.json", {**ENVIRONMENT, "device": f"CPU of {run.name}"})
    return [search, first, second]


def latency(ms: float) -> dict[str, Any]:
    """Return what ``dcsnas evaluate`` notes of a latency."""
    conditions = {
        "device": "cpu", "device_name": "fake", "backend": "eager", "dtype": "float32",
        "threads": 1, "batch": 1, "input": [16, 8], "allocator": "glibc",
    }  # fmt: skip
    verdict = {
        "state": "quiet", "speed_percent": 1.0, "interrupted_percent": 2.0, "halves_percent": 0.5,
    }  # fmt: skip
    return {"measured_ms": ms, "predicted_ms": 1.1 * ms, "at_table_speed_ms": None,
            "conditions": conditions, "verdict": verdict}  # fmt: skip


def write_experiment(root: Path) -> Path:
    """Write an experiment of three trials, one of which failed, with a report."""
    sweep = load_sweep(Path("s.yaml"), sweep_content())
    folder = light_experiment(root / "sweep", sweep)
    write_database(folder, [])
    rows = [
        "trial,number,status,weight,validation_map,predicted_ms,folder",
        "big,0,SUCCEEDED,0.0,60.0,4.0,x",
        "fast,1,SUCCEEDED,0.5,40.0,1.5,x",
        "dead,2,FAILED,0.5,,,x",
    ]
    write_text(folder.report / "trials.csv", "\n".join(rows) + "\n")
    return folder.path


class Page(HTMLParser):
    """A page's elements and texts; what is not balanced is in ``faults``."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.faults: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"never closed: {tag}" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in SHAPES:
            self.faults.append(f"ends itself: {tag}")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"closed out of order: {tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """Return everything that is read, with single spaces."""
        return " ".join(" ".join(self.texts).split())
