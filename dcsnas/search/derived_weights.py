"""The weights of a derived network before it is trained: slices of the supernet's, recalibrated.

They tell what the search saw in a network (``dcsnas evaluate``), not what training makes of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, read_yaml
from dcsnas.config.jsonl import append_line, drop_torn_line, read_lines
from dcsnas.config.outputs import held
from dcsnas.config.search import WITHIN_PERCENT, SearchConfig, check_count, search_model
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.reid import samples_digest, split_train
from dcsnas.nn.inherit import State
from dcsnas.nn.weights import header_of, read_header, read_state, save_weights
from dcsnas.search.derive import derive_ranked
from dcsnas.search.validation import Validator
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import Task, find_task, read_data

SCORES = "scores.jsonl"
"""In a run folder: a line a network, with its digest, the supernet's, and its scores in percent."""

Scores = dict[str, float]


class Kept(NamedTuple):
    """What looks up the scores of networks in a file, and adds to it what is not there yet."""

    path: Path
    supernet: str
    """The digest of the weights' file; scores of others do not count."""
    known: dict[str, Scores]
    """Scores by the digest of the network."""

    def of(
        self, network: ArchitectureFile, score: Callable[[ArchitectureFile], Scores]
    ) -> tuple[Scores, bool]:
        """Return a network's scores, and whether they were known; else ``score`` computes them."""
        name = network.network.digest
        if name in self.known:
            return self.known[name], True
        found = score(network)
        append_line(self.path, {"network": name, "supernet": self.supernet, "scores": found})
        self.known[name] = found
        return found, False


@contextmanager
def kept_scores(run: Path, weights: Path) -> Iterator[Kept]:
    """Be the one process that scores networks of ``run`` with the file ``weights``.

    A line that a killed process left half written is removed. Raises UserError where another
    process scores them, or a line is broken.
    """
    path = run / SCORES
    with held(run / f".{SCORES}.lock", of=path, otherwise="wait until it ends"):
        drop_torn_line(path)
        lines = [line for _, line in read_lines(path)] if path.exists() else []
        supernet = file_digest(weights)
        known = {line["network"]: line["scores"] for line in lines if line["supernet"] == supernet}
        yield Kept(path, supernet, known)


NECK = "neck."
SUPERNET = "supernet.safetensors"


def save_derived_weights(
    run: Path, found: ArchitectureFile, path: Path, *, data_root: Path | None = None
) -> None:
    """Write ``found``, derived from the finished search ``run``, with the supernet's weights.

    BatchNorm's statistics are measured on images that trained the weights; ``data_root`` is where
    they are now, if not where the search found them.
    Raises UserError where the search has not ended or the images are not the search's.
    """
    validator, layers, neck = _searched(run, found, data_root)
    network = validator.network(layers, neck, found.provenance.choice)
    data, classes = validator.config.data, validator.num_classes
    header = header_of("derive", found, data, found.input, classes, task=validator.task.name)
    named = {"classes": read_header(run / "supernet.safetensors").classes}
    header = header.model_copy(update=named)
    save_weights(path, network.state_dict(), header)


def score_derived(
    run: Path, networks: Sequence[ArchitectureFile], *, data_root: Path | None = None
) -> Iterator[dict[str, float]]:
    """Yield each network's scores with the supernet's weights, in percent, as the search does.

    Raises UserError as ``save_derived_weights`` does, and where nothing can be scored.
    """
    with scorer(run, networks[0], data_root=data_root) as score:
        for network in networks:
            found, _ = score(network)
            yield found


@contextmanager
def scorer(
    run: Path, like: ArchitectureFile, *, data_root: Path | None = None
) -> Iterator[Callable[[ArchitectureFile], tuple[dict[str, float], bool]]]:
    """Give what scores networks of the finished search ``run`` at the input of ``like``.

    It returns a network's scores in percent, and whether they stood in the run folder already,
    where they are kept. Raises UserError as ``score_derived``.
    """
    validator, layers, neck = _searched(run, like, data_root)
    validator.refuse_unscorable()

    def computed(network: ArchitectureFile) -> dict[str, float]:
        return validator.scores(layers, neck, network.provenance.choice)

    with kept_scores(run, run / SUPERNET) as kept:
        yield lambda network: kept.of(network, computed)


@dataclass(frozen=True)
class Ranked:
    """The most probable networks of a search, that first, and the task's metric of each."""

    networks: list[ArchitectureFile]
    scores: list[float]
    task: Task

    @property
    def best(self) -> int:
        """Return the position of the best score, the most probable network of equals."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)

    @property
    def found(self) -> ArchitectureFile:
        """Return the network at that position."""
        return self.networks[self.best]


def rank_by_score(
    run: Path,
    *,
    count: int,
    target_ms: float | None = None,
    target_memory_mb: float | None = None,
    within_percent: float = WITHIN_PERCENT,
    data_root: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ranked:
    """Score the ``count`` most probable networks of a search; raises UserError as above.

    ``target_ms``, ``target_memory_mb`` and ``within_percent`` limit them as in ``derive``;
    ``progress`` hears of networks scored.
    """
    check_count("--best-of", count)
    networks = derive_ranked(
        run,
        count=count,
        target_ms=target_ms,
        target_memory_mb=target_memory_mb,
        within_percent=within_percent,
    )
    task, scores = task_of(run), []
    for found in score_derived(run, networks, data_root=data_root):
        scores.append(found[task.metric])
        progress(len(scores), len(networks))
    return Ranked(networks, scores, task)


def task_of(run: Path) -> Task:
    """Return the task of a search."""
    return find_task(_config(run).task)


def _config(run: Path) -> SearchConfig:
    return load_with_overrides(search_model, run / "config.yaml", [])


def _searched(
    run: Path, found: ArchitectureFile, data_root: Path | None
) -> tuple[Validator, State, State]:
    """Return what scored the search's networks, the supernet's weights, and its head's."""
    config = _config(run)
    supernet = run / SUPERNET
    if not supernet.exists():
        raise UserError(f"{supernet}: no such file; weights can be derived when the search is over")
    state = read_state(supernet)
    neck = {n.removeprefix(NECK): t for n, t in state.items() if n.startswith(NECK)}
    if not neck:
        raise UserError(f"{supernet}: holds no neck, as those of older versions; search again")
    root = data_root or config.data.root
    located = config.data.model_copy(update={"root": root})
    data = read_data(find_task(config.task), located)
    if samples_digest(data.train) != read_yaml(run / "config.yaml")["inputs"]["data"]:
        raise UserError(f"{root}: not the training images of the search; give them by --data")
    parts = split_train(data.train, fraction=config.split, seed=config.run.seed)
    space = SearchSpace.load(run / "space.yaml")
    return Validator(config, space, found.input, parts, data.num_classes), state, neck
