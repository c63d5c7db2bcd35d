"""The stages as functions: draw data, profile, search and derive, train."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dcsnas.api.model import Place, TrainedRun
from dcsnas.config.files import read_json
from dcsnas.config.outputs import output, require_output
from dcsnas.config.runs import run_folder
from dcsnas.config.search import WITHIN_PERCENT, search_model, search_overrides
from dcsnas.config.stages import (
    train_model,
)
from dcsnas.config.strict import with_data
from dcsnas.data.drawn.render import ReidSettings, render_reid
from dcsnas.evaluation.features import Progress
from dcsnas.latency.conditions import DType
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.profile import TABLES, default_name, profile_space
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import LatencyTable, load_table
from dcsnas.search.derive import Probabilities, derive, read_probabilities, refuse_another
from dcsnas.search.derived_weights import rank_by_score
from dcsnas.search.evolved import evolve_by_score
from dcsnas.search.random_search import random_network_at
from dcsnas.search.run import search as run_search
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture, save_architecture
from dcsnas.spaces.layers import Size
from dcsnas.spaces.shipped import Config, resolve
from dcsnas.spaces.space import SearchSpace
from dcsnas.training.train import Stage
from dcsnas.training.train import train as run_train


def render_people(path: Place, **settings: int) -> Path:
    """Draw a re-identification set to the new folder ``path`` and return it.

    ``settings`` are those of ``dcsnas data render``, such as ``train_identities=50``.
    """
    render_reid(Path(path), ReidSettings(**settings))
    return Path(path)


def profile(
    space: SearchSpace,
    backend: str = "eager",
    batch: int = 1,
    threads: int = 1,
    dtype: DType = "float32",
    input: Size | None = None,
    sparse: bool = False,
    rounds: int = 20,
    out: Place | None = None,
    progress: Progress = lambda done, total: None,
) -> LatencyTable:
    """Measure the latency table of ``space`` on this device, or continue or read a measured one.

    Args:
        space: As ``load_space`` gives it.
        backend: How networks will be run: eager, compiled, onnxruntime, cuda, ...
        batch: Images at a time.
        threads: CPU threads within an operator.
        dtype: Type of weights and images.
        input: (height, width); the space's own unless given.
        sparse: Measure 16 operators of each group and fit the others.
        rounds: Samples of each operator.
        out: The table's file; in ``latency_tables/``, named after all of the above, unless given.
        progress: Hears of samples taken and wanted.

    """
    conditions = current_conditions(
        input or space.size, batch, backend=backend, threads=threads, dtype=dtype
    )
    path = Path(out) if out else TABLES / default_name(space, conditions, sparse=sparse)
    settings = Settings(rounds=rounds, sparse=sparse)
    with output(path, force=True):  # a table that is there is continued, or read
        return profile_space(
            space, path, conditions=conditions, settings=settings, progress=progress
        )


class SearchRun:
    """The run folder ``path`` of a search, finished or not."""

    def __init__(self, path: Place) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"SearchRun({str(self.path)!r})"

    @property
    def space(self) -> SearchSpace:
        """Return the space that was searched."""
        return SearchSpace.load(self.path / "space.yaml")

    @property
    def probabilities(self) -> Probabilities:
        """Return the latest probabilities: for each decision's label those of its options."""
        latest = read_probabilities(self.path)[-1]
        return {decision.label: latest[decision.label] for decision in self.space.decisions}

    @property
    def result(self) -> dict[str, float]:
        """Return what ``result.json`` holds when the search is over: latencies in ms, entropy."""
        return read_json(self.path / "result.json")

    @property
    def supernet(self) -> Path:
        """Return the file of the supernet's weights, which ``train`` can start from."""
        return self.path / "supernet.safetensors"

    def derive(
        self,
        target_ms: float | None = None,
        within_percent: float = WITHIN_PERCENT,
        best_of: int = 1,
        data: Place | None = None,
        out: Place | None = None,
        force: bool = False,
        target_memory_mb: float | None = None,
        evolve: int = 0,
        seed: int = 0,
    ) -> ArchitectureFile:
        """Return the most probable network, which is written to ``architecture.yaml`` in the run.

        Args:
            target_ms: Largest predicted latency; that of a search for a target unless given.
            within_percent: How far below it a network may be, unless there is none so near.
            best_of: Take, of so many most probable ones, the one that scores best with the
                supernet's weights.
            data: For ``best_of`` and ``evolve``, where the search's data set is now.
            out: Another file to write.
            force: Replace a file that holds another network.
            target_memory_mb: Largest peak memory for one image in float32, in MB (10^6 bytes);
                that of a search for a target memory unless given.
            evolve: Take the best network within the budget that evolution finds, which scores so
                many with the supernet's weights.
            seed: Of the draws of ``evolve``.

        """
        path = Path(out) if out else self.path / "architecture.yaml"
        require_output(path, force=force or (best_of == 1 and not evolve))
        limits: Any = {
            "target_ms": target_ms,
            "target_memory_mb": target_memory_mb,
            "within_percent": within_percent,
        }
        root = Path(data) if data else None
        if evolve:
            limits |= {"scores": evolve, "seed": seed, "data_root": root}
            found = evolve_by_score(self.path, **limits).found
        elif best_of == 1:
            found = derive(self.path, **limits)
        else:
            found = rank_by_score(self.path, count=best_of, **limits, data_root=root).found
        refuse_another(path, found, force=force)
        save_architecture(path, found)
        return found


def sample_at(
    table: LatencyTable | Place, target_ms: float, seed: int = 0, allow_disturbed: bool = False
) -> ArchitectureFile:
    """Return a random network of the table's space of a latency, to compare a searched one with.

    Args:
        table: Latency table, or its file.
        target_ms: Predicted latency, within 1 %.
        seed: Of the draw.
        allow_disturbed: Accept a table whose verdict is disturbed.

    """
    opened = table if isinstance(table, LatencyTable) else load_table(table, expected=None)
    if not allow_disturbed:
        opened.refuse_disturbed()
    return random_network_at(opened, target_ms, seed)


def search(
    config: Config,
    data: Place | None = None,
    table: LatencyTable | Place | None = None,
    target_ms: float | None = None,
    set: Sequence[str] = (),
    out: Place | None = None,
    allow_foreign: bool = False,
    allow_disturbed: bool = False,
) -> SearchRun:
    """Search weights and architecture jointly; an interrupted search in ``out`` is continued.

    Args:
        config: A configuration: a file's path, a shipped one's name, its content, or the object.
        data: Data set folder.
        table: Latency table, or its file.
        target_ms: Expected latency to end at, in place of the configuration's objective.
        set: Changes of single keys, such as ``["epochs=5", "run.seed=1"]``.
        out: Run folder; a new one in ``runs/`` unless given.
        allow_foreign: Accept another machine's table.
        allow_disturbed: Accept a table whose verdict is disturbed.

    """
    source = table.source if isinstance(table, LatencyTable) else table
    overrides = search_overrides(set, data=data, table=source, target_ms=target_ms)
    resolved = resolve(search_model, config, overrides)
    with run_folder(out, "search", config) as folder:
        run_search(resolved, folder, allow_foreign=allow_foreign, allow_disturbed=allow_disturbed)
    return SearchRun(folder.path)


def train(
    config: Config,
    architecture: ArchitectureFile | Place,
    data: Place | None = None,
    start: Place | None = None,
    set: Sequence[str] = (),
    out: Place | None = None,
    stage: Stage = "retrain",
) -> TrainedRun:
    """Train a network for a task; an interrupted training in ``out`` is continued.

    Args:
        config: A configuration: a file's path, a shipped one's name, its content, or the object.
        architecture: A network, or its file.
        data: Data set folder.
        start: First weights: backbone.safetensors of a pretraining, or a search's ``supernet``.
        set: Changes of single keys, such as ``["epochs=5", "run.seed=1"]``.
        out: Run folder; a new one in ``runs/`` unless given.
        stage: retrain, which keeps the whole network, or pretrain, the backbone for a ``start``.

    """
    resolved = resolve(partial(train_model, stage), config, with_data(set, data))
    in_memory = isinstance(architecture, ArchitectureFile)
    network = architecture if in_memory else load_architecture(architecture)
    weights = Path(start) if start else None
    with run_folder(out, stage, config) as folder:
        trained = run_train(resolved, network, folder, stage=stage, start=weights)
    return TrainedRun(trained.weights, trained.score)
