"""The demo: every stage of the flow on rendered data, each the real one.

Stages that finished are not repeated when a stopped demo is continued in its folder.
"""

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, read_json, write_json
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import search_model
from dcsnas.data.drawn.render import ClassSettings, ReidSettings
from dcsnas.data.reid import read_reid
from dcsnas.demo.drawing import draw_both, draw_sheet
from dcsnas.demo.report import Summary, write_report
from dcsnas.demo.rivals import EPOCHS, Recipe, Rival, histogram_features, train_side_by_side
from dcsnas.evaluation.ranking import Embeddings, evaluate_retrieval
from dcsnas.evaluation.speed import comparable_ms, latency_records
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.profile import profile_space
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import LatencyTable
from dcsnas.latency.verdict import Verdict
from dcsnas.latency.whole_networks import measure_architectures
from dcsnas.plots.run import plot_run
from dcsnas.search.derive import architecture_of, derive
from dcsnas.search.random_search import random_choice_at
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile, save_architecture
from dcsnas.spaces.shipped import find_experiment
from dcsnas.spaces.space import SearchSpace

BATCH = 8
"""Images at a time for latency: the people in one frame, and enough work to tell networks apart."""

SETTINGS = Settings(rounds=10)
"""Half as long as tables for use are measured."""

STAGES = ("search", "pretrain", "retrain")

QUICK_PEOPLE = {"train_identities": 16, "test_identities": 8, "cameras": 2, "images_per_camera": 2,
                "distractors": 4, "junk": 2}  # fmt: skip
QUICK_CLASSES = {"train_per_class": 8, "val_per_class": 2, "cameras": 2}
QUICK_SETTINGS = Settings(rounds=2, sparse=True, calibration_networks=2)
"""What a quick demo draws and measures."""

Say = Callable[[str], None]
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Demo:
    """Where the demo works, and how it tells what it does."""

    root: Path
    seed: int
    say: Say
    bar: Bar
    live: bool
    quick: bool = False

    @property
    def people(self) -> Path:
        """The re-identification set."""
        return self.root / "people"

    @property
    def sets(self) -> tuple[ReidSettings, ClassSettings]:
        """What is drawn: people and garments."""
        if self.quick:
            people = ReidSettings(seed=self.seed, **QUICK_PEOPLE)
            return people, ClassSettings(seed=self.seed, **QUICK_CLASSES)
        return ReidSettings(seed=self.seed), ClassSettings(seed=self.seed)

    @property
    def recipe(self) -> Recipe:
        """How networks are trained here."""
        return Recipe(self.root, self.seed, quick=self.quick)


def run_demo(
    root: Path, *, seed: int, say: Say, bar: Bar, live: bool, quick: bool = False
) -> Summary:
    """Run all stages in ``root`` and return the numbers, which ``summary.json`` holds as well.

    ``say`` prints a line, ``bar(title)`` opens a progress bar, ``live`` shows the search's bars.
    A ``quick`` one shows that everything runs here, and nothing else: on few images, for epochs
    that teach nothing, with latencies of a few samples.
    """
    demo = Demo(root, seed, say, bar, live, quick)
    _same_demo(demo)
    finished = root / "summary.json"
    if finished.exists():
        return Summary(**read_json(finished))
    space = SearchSpace.named("tiny")
    started = time.monotonic()
    with bar("drawing people and garments") as progress:
        draw_both(root, *demo.sets, progress)
    say(f"first picture: {draw_sheet(root)}")
    table, profile_s = _profile(demo, space)
    derived = _search(demo)
    rival = _random_rival(demo, space, table, derived)
    measured = _measure(demo, table, {"derived": derived, "random": rival})
    with bar("training both networks") as progress:
        scores = train_side_by_side(demo.recipe, measured, progress=progress)
    histogram = _histogram(demo)
    predicted = [found.latency["predicted_ms"] for found in measured]
    summary = Summary(
        space_log10=space.log10_size,
        table_entries=len(table.file.entries),
        profile_s=profile_s,
        predicted_ms=predicted[0],
        measured_ms=comparable_ms(measured[0].latency),
        params_m=derived.params / 1e6,
        macs_g=derived.macs / 1e9,
        map=scores[0]["map"],
        rank1=scores[0]["rank1"],
        random_map=scores[1]["map"],
        random_rank1=scores[1]["rank1"],
        random_predicted_ms=predicted[1],
        random_measured_ms=comparable_ms(measured[1].latency),
        histogram_map=histogram["map"],
        histogram_rank1=histogram["rank1"],
        total_s=time.monotonic() - started,
        table_verdict=str(table.file.verdict),
        measured_verdict=str(Verdict.model_validate(measured[0].latency["verdict"])),
    )
    _report(demo, summary)
    write_json(finished, asdict(summary))
    return summary


def _same_demo(demo: Demo) -> None:
    """Refuse to continue a demo of another seed, version or recipe: results would be mixed."""
    recipes = [find_experiment(f"{stage}_tiny") for stage in STAGES]
    record = {
        "version": __version__,
        "seed": demo.seed,
        "space": SearchSpace.named("tiny").digest,
        "recipes": [file_digest(path) for path in recipes],
        "epochs": EPOCHS,
    }
    record |= {"quick": True} if demo.quick else {}
    path = demo.root / "demo.json"
    if not path.exists():
        write_json(path, record)
    elif read_json(path) != record:
        raise UserError(
            f"{demo.root}: holds a demo of another seed, version or recipe, or one that was quick "
            "or was not; give another --out"
        )


def _profile(demo: Demo, space: SearchSpace) -> tuple[LatencyTable, float]:
    conditions = current_conditions(space.size, BATCH)
    record = demo.root / "profile.json"
    started = time.monotonic()
    with demo.bar("profiling operators") as progress:
        path = demo.root / "table.json"
        settings = QUICK_SETTINGS if demo.quick else SETTINGS
        table = profile_space(
            space, path, conditions=conditions, settings=settings, progress=progress
        )
    if not record.exists():
        write_json(record, {"seconds": time.monotonic() - started})
    return table, read_json(record)["seconds"]


def _search(demo: Demo) -> ArchitectureFile:
    folder = RunFolder(demo.root / "search")
    if not (folder.path / "result.json").exists():
        config = demo.recipe.config(search_model, "search_tiny", "people")
        config = config.model_copy(update={"table": demo.root / "table.json"})
        demo.say(f"searching for {config.epochs} epochs")
        # a demo runs to its end on any machine, and says in its last lines what the table is worth
        search(config, folder, allow_disturbed=True, progress=demo.live)
    derived = derive(folder.path)
    save_architecture(folder.path / "architecture.yaml", derived)
    return derived


def _random_rival(
    demo: Demo, space: SearchSpace, table: LatencyTable, derived: ArchitectureFile
) -> ArchitectureFile:
    target = derived.provenance.predicted_latency_ms
    assert target is not None
    choice = random_choice_at(
        space, table, target, random.Random(demo.seed), exclude=derived.provenance.choice
    )
    rival = architecture_of(space, choice, table=table, seed=demo.seed)
    save_architecture(demo.root / "random" / "architecture.yaml", rival)
    return rival


def _measure(
    demo: Demo, table: LatencyTable, architectures: dict[str, ArchitectureFile]
) -> list[Rival]:
    """Return the networks with their latencies, measured interleaved."""
    conditions = table.file.conditions
    demo.say("measuring both networks")
    measured = measure_architectures([a.network for a in architectures.values()], conditions)
    predictions = [one.provenance for one in architectures.values()]
    records = latency_records(measured, conditions, predictions)
    return [
        Rival(name, one, record)
        for (name, one), record in zip(architectures.items(), records, strict=True)
    ]


def _histogram(demo: Demo) -> dict[str, float]:
    """Return the retrieval scores of colour histograms in percent."""
    data = read_reid(demo.people)
    sides = []
    for samples in (data.query, data.gallery):
        features = torch.from_numpy(histogram_features([s.path for s in samples]))
        identities = torch.tensor([sample.identity for sample in samples])
        cameras = torch.tensor([sample.camera for sample in samples])
        sides.append(Embeddings(features, identities, cameras))
    result = evaluate_retrieval(*sides)
    return {"map": 100 * result.map, "rank1": 100 * result.rank(1)}


def _report(demo: Demo, summary: Summary) -> None:
    runs = [demo.root / "search", demo.root / "derived" / "retrain"]
    drawn = [path for run in runs for path in plot_run(run) if path.suffix == ".png"]
    # the search's picture of the network is the one with latencies
    again = runs[1] / "plots" / "architecture.png"
    write_report(
        demo.root / "report.md",
        summary,
        table=demo.root / "table.json",
        environment=runs[0] / "environment.json",
        pictures=[path for path in drawn if path != again],
    )
