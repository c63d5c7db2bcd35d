"""What every evaluation of a network says, whatever it was trained for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcsnas.config.files import write_json

Progress = Callable[[int, int], None]
"""Hears of how many images of how many are done."""


class Report(ABC):
    """The numbers of one network, and under which rules they hold."""

    @abstractmethod
    def percentages(self) -> dict[str, float]:
        """Return the scores in percent."""

    @abstractmethod
    def record(self) -> dict[str, object]:
        """Return plain values for ``metrics.json``, the protocol stated with the numbers."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Return what to print beside the scores."""

    def files(self) -> dict[str, object]:
        """Return what pictures need, by the names of files beside ``metrics.json``."""
        return {}


def save_report(path: Path, report: Report, latency: Mapping[str, Any]) -> None:
    """Write ``path`` (metrics.json) and the files beside it."""
    write_json(path, {**report.record(), "latency": dict(latency)})
    for name, content in report.files().items():
        write_json(path.with_name(name), content)


def counted(progress: Progress, total: int) -> Callable[[int], None]:
    """Return what tells ``progress`` of ``total`` images when it hears of a batch's size."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(done, total)

    return advance
