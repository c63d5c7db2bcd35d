"""Which eta a cross-validation chooses, and how sure that is.

Every fold was trained under every eta, so two etas are compared by their differences within folds.
"""

import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dcsnas.config.files import write_csv
from dcsnas.evaluation.paired import PairedDifference, paired_difference


@dataclass(frozen=True)
class FoldScore:
    """A network trained under ``eta`` without fold ``fold``, from 1.

    ``map`` and ``rank1`` in percent on that fold; ``ibb`` and ``ib_loss`` in nats on the images
    that trained it; ``bound_percent`` is the bound's gradient in percent of the cross-entropy's.
    """

    eta: float
    fold: int
    map: float
    rank1: float
    ibb: float
    ib_loss: float
    bound_percent: float = 0.0


@dataclass(frozen=True)
class EtaChoice:
    """The scores of every eta and fold: the chosen eta is that of the best mean mAP.

    Of equal ones it is the smaller.
    """

    scores: tuple[FoldScore, ...]

    @property
    def etas(self) -> list[float]:
        """Return what was tried, ascending."""
        return sorted({score.eta for score in self.scores})

    @property
    def reference(self) -> float:
        """Return the smallest eta, usually 0: the training without the bound."""
        return self.etas[0]

    @property
    def ranked(self) -> list[float]:
        """Return the etas by mean mAP, the best first."""
        return sorted(self.etas, key=lambda eta: (-self.mean(eta, "map"), eta))

    @property
    def chosen(self) -> float:
        """Return the eta of the best mean mAP."""
        return self.ranked[0]

    def values(self, eta: float, name: str) -> list[float]:
        """Return a measure of every fold under ``eta``, in the order of the folds."""
        own = sorted((s for s in self.scores if s.eta == eta), key=lambda score: score.fold)
        return [getattr(score, name) for score in own]

    def mean(self, eta: float, name: str) -> float:
        """Return the mean over folds."""
        return statistics.fmean(self.values(eta, name))

    def deviation(self, eta: float) -> float:
        """Return the standard deviation of mAP over folds."""
        return statistics.stdev(self.values(eta, "map"))

    def advantage(self, eta: float, other: float) -> PairedDifference:
        """Return the mean difference of mAP within folds."""
        return paired_difference(self.values(eta, "map"), self.values(other, "map"))

    def conclusion(self) -> str:
        """Return in words what was chosen, and from what the folds do not tell it apart."""
        best, folds = self.chosen, len(self.values(self.chosen, "map"))
        text = (
            f"eta {best:g} has the best mean mAP of {folds} folds, {self.mean(best, 'map'):.2f} %"
        )
        rivals = list(dict.fromkeys(e for e in (self.ranked[1], self.reference) if e != best))
        stated = [f"{self.advantage(best, rival)} points against eta {rival:g}" for rival in rivals]
        text += f": {' and '.join(stated)}."
        others = [eta for eta in self.etas if eta != best]
        unclear = [f"{eta:g}" for eta in others if not self.advantage(best, eta).clear]
        if unclear:
            text += (
                f" The advantage over eta {_listed(unclear)} is within one standard error: these "
                "folds do not tell them apart."
            )
        if best == self.etas[-1]:
            text += " It is the largest eta tried; a larger one may be better."
        return text

    def record(self) -> dict[str, object]:
        """Return plain values for ``eta.json``."""
        return {
            "chosen": self.chosen,
            "conclusion": self.conclusion(),
            "reference": self.reference,
            "etas": [self._summary(eta) for eta in self.etas],
            "runs": [asdict(score) for score in self.scores],
        }

    def _summary(self, eta: float) -> dict[str, float]:
        gain = self.advantage(eta, self.reference)
        measures = ("map", "rank1", "ibb", "ib_loss", "bound_percent")
        return {
            "eta": eta,
            **{f"{name}_mean": self.mean(eta, name) for name in measures},
            "map_sd": self.deviation(eta),
            "advantage": gain.points,
            "advantage_se": gain.se,
            "advantage_low95": gain.low,
            "advantage_high95": gain.high,
            "folds": gain.pairs,
        }

    def write_csv(self, path: Path) -> None:
        """Write one row for every eta and fold."""
        names = [field.name for field in fields(FoldScore)]
        rows = ([getattr(score, name) for name in names] for score in self.scores)
        write_csv(path, [names, *rows])


def _listed(names: list[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
