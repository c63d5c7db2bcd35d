"""The demo: every stage of the flow on rendered data, each the real one.

Stages that finished are not repeated when a stopped demo is continued in its folder.
"""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dcsnas.config.files import read_json, write_json
from dcsnas.config.overrides import load_with_overrides
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig, SearchConfig
from dcsnas.data.reid import read_reid
from dcsnas.data.render import ClassSettings, ReidSettings, render_classes, render_reid
from dcsnas.demo.summary import Summary
from dcsnas.evaluation.evaluate import evaluate, save_evaluation
from dcsnas.evaluation.histogram import histogram_features
from dcsnas.evaluation.ranking import Embeddings, evaluate_retrieval
from dcsnas.evaluation.speed import measure_latency
from dcsnas.latency.conditions import current_conditions
from dcsnas.latency.matching import random_choice_at
from dcsnas.latency.network import measure_networks
from dcsnas.latency.profile import profile_space
from dcsnas.latency.table import LatencyTable
from dcsnas.nn.build import build
from dcsnas.plots.report import ReportPaths, write_report
from dcsnas.plots.run import plot_run
from dcsnas.search.derive import architecture_of, derive
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.spaces.shipped import find_space, shipped_folder
from dcsnas.spaces.space import SearchSpace
from dcsnas.training.pretrain import pretrain
from dcsnas.training.retrain import retrain

BATCH = 8
"""Images at a time for latency: the people in one frame, and enough work to tell networks apart."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Demo:
    """Where the demo works, and how it speaks."""

    root: Path
    seed: int
    say: Say
    progress: bool

    def config(self, model: Any, name: str, data: str) -> Any:
        """Return the shipped configuration ``name``, on one of the demo's data sets."""
        path = shipped_folder("experiments") / f"{name}.yaml"
        overrides = [f"data.root={self.root / data}", f"run.seed={self.seed}"]
        if model is SearchConfig:
            overrides.append(f"table={self.root / 'table.json'}")
        return load_with_overrides(model, path, overrides)


def run_demo(root: Path, *, seed: int, say: Say, progress: bool) -> Summary:
    """Run all stages in ``root`` and return the numbers, which ``summary.json`` holds as well."""
    demo = Demo(root, seed, say, progress)
    space = SearchSpace.load(find_space("tiny"))
    started = time.monotonic()
    _render(demo)
    table, profile_s = _profile(demo, space)
    derived = _search(demo)
    rival = _random_rival(demo, space, table, derived)
    measured = _measure(demo, table, [derived, rival])
    scores = [_train(demo, name, a) for name, a in (("derived", derived), ("random", rival))]
    histogram = _histogram(demo)
    predicted = [a.provenance.predicted_latency_ms or 0.0 for a in (derived, rival)]
    summary = Summary(
        space_log10=space.log10_size,
        table_entries=len(table.file.entries),
        profile_s=profile_s,
        predicted_ms=predicted[0],
        measured_ms=measured[0],
        params_m=derived.params / 1e6,
        macs_g=derived.macs / 1e9,
        map=scores[0]["map"],
        rank1=scores[0]["rank1"],
        random_map=scores[1]["map"],
        random_rank1=scores[1]["rank1"],
        random_predicted_ms=predicted[1],
        random_measured_ms=measured[1],
        histogram_map=histogram["map"],
        histogram_rank1=histogram["rank1"],
        total_s=time.monotonic() - started,
    )
    write_json(root / "summary.json", asdict(summary))
    _report(demo, summary)
    return summary


def _render(demo: Demo) -> None:
    people, classes = demo.root / "people", demo.root / "classes"
    if not people.exists():
        demo.say("rendering people for re-identification")
        render_reid(people, ReidSettings(seed=demo.seed))
    if not classes.exists():
        demo.say("rendering garments for pretraining")
        render_classes(classes, ClassSettings(seed=demo.seed))


def _profile(demo: Demo, space: SearchSpace) -> tuple[LatencyTable, float]:
    demo.say("profiling every operator of the space on this machine")
    conditions = current_conditions(space.size, BATCH)
    record = demo.root / "profile.json"
    started = time.monotonic()
    table = profile_space(space, demo.root / "table.json", conditions=conditions)
    if not record.exists():
        write_json(record, {"seconds": time.monotonic() - started})
    return table, read_json(record)["seconds"]


def _search(demo: Demo) -> ArchitectureFile:
    demo.say("searching weights and architecture")
    folder = RunFolder(demo.root / "search")
    if not (folder.path / "result.json").exists():
        search(demo.config(SearchConfig, "search_tiny", "people"), folder, progress=demo.progress)
    derived = derive(folder.path)
    save_architecture(folder.path / "architecture.yaml", derived)
    return derived


def _random_rival(
    demo: Demo, space: SearchSpace, table: LatencyTable, derived: ArchitectureFile
) -> ArchitectureFile:
    target = derived.provenance.predicted_latency_ms
    assert target is not None
    choice = random_choice_at(space, table, target, random.Random(demo.seed))
    rival = architecture_of(space, choice, table=table, seed=demo.seed)
    save_architecture(demo.root / "random" / "architecture.yaml", rival)
    return rival


def _measure(demo: Demo, table: LatencyTable, files: list[ArchitectureFile]) -> list[float]:
    demo.say("measuring the derived network and a random one of the same predicted latency")
    conditions = table.file.conditions
    timings = measure_networks([build(file.network) for file in files], conditions)
    return [timing.value_ms(conditions.statistic) for timing in timings]


def _train(demo: Demo, name: str, architecture: ArchitectureFile) -> dict[str, float]:
    """Pretrain, retrain and evaluate one network; both rivals get the same recipe."""
    folder = demo.root / name
    metrics = folder / "retrain" / "metrics.json"
    if not metrics.exists():
        demo.say(f"training the {name} network: pretrain, retrain, evaluate")
        first = demo.config(PretrainConfig, "pretrain_tiny", "classes")
        backbone = pretrain(
            first, architecture, RunFolder(folder / "pretrain"), progress=demo.progress
        )
        second = demo.config(RetrainConfig, "retrain_tiny", "people")
        trained = retrain(
            second,
            architecture,
            RunFolder(folder / "retrain"),
            start=backbone.weights,
            progress=demo.progress,
        )
        people = demo.root / "people"
        result = evaluate(trained.weights, people, workers=0)
        save_evaluation(metrics, result, people, measure_latency(trained.weights))
    return json.loads(metrics.read_text())


def _histogram(demo: Demo) -> dict[str, float]:
    """Return the retrieval scores of colour histograms in percent."""
    data = read_reid(demo.root / "people")
    sides = []
    for samples in (data.query, data.gallery):
        features = torch.from_numpy(histogram_features([s.path for s in samples])).float()
        identities = torch.tensor([sample.identity for sample in samples])
        cameras = torch.tensor([sample.camera for sample in samples])
        sides.append(Embeddings(features, identities, cameras))
    result = evaluate_retrieval(*sides)
    return {"map": 100 * result.map, "rank1": 100 * result.rank(1)}


def _report(demo: Demo, summary: Summary) -> None:
    demo.say("drawing pictures and writing the report")
    runs = [demo.root / "search", demo.root / "derived" / "retrain"]
    drawn = [path for run in runs for path in plot_run(run) if path.suffix == ".png"]
    paths = ReportPaths(
        report=demo.root / "report.md",
        table=demo.root / "table.json",
        environment=runs[0] / "environment.json",
        pictures=tuple(drawn),
    )
    write_report(paths, asdict(summary))
