"""Scores of networks with a search's supernet, each distinct network's computed once.

They are kept in the run folder as they come, so that what is killed continues from them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dcsnas.config.files import file_digest
from dcsnas.config.jsonl import append_line, drop_torn_line, read_lines
from dcsnas.config.outputs import held
from dcsnas.spaces.architecture import ArchitectureFile

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
