"""What an evaluation says of one trained network, and how ``metrics.json`` states it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dcsnas.config.files import write_csv, write_json
from dcsnas.config.stages import VariantConfig
from dcsnas.evaluation.pairs import JUNK
from dcsnas.evaluation.ranking import RetrievalResult
from dcsnas.evaluation.reranking import KReciprocal
from dcsnas.evaluation.roc import RESOLUTION, Verification
from dcsnas.evaluation.selection import SelectedChannels
from dcsnas.nn.weights import ChosenEpoch

RANKS = (1, 5, 10)


class Report(ABC):
    """The numbers of one network, whatever it was trained for, and under which rules they hold."""

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
        """Return what else there is, by the names of files beside ``metrics.json``.

        A .json has a value of JSON, a .csv rows.
        """
        return {}


WRITERS: dict[str, Callable[[Path, Any], None]] = {".json": write_json, ".csv": write_csv}


def save_report(path: Path, report: Report, latency: Mapping[str, Any]) -> None:
    """Write the files beside ``path`` (metrics.json), and last itself: where it is, all are."""
    for name, content in report.files().items():
        WRITERS[Path(name).suffix](path.with_name(name), content)
    save_metrics(path, report, latency)


def save_metrics(path: Path, report: Report, latency: Mapping[str, Any]) -> None:
    """Write ``path`` (metrics.json) alone."""
    write_json(path, {**report.record(), "latency": dict(latency)})


@dataclass(frozen=True)
class Information:
    """IB loss I(F; X) - I(F; Y) and its bound IBB on the training images, in nats (Section 3.3).

    Both are of soft assignments at ``ib_temperature``, of deviations from the mean feature where
    they are ``ib_centered``; values of different ones do not compare.
    """

    ib_loss: float
    ibb: float
    ib_temperature: float
    ib_centered: bool

    @property
    def scale(self) -> str:
        """Return in words what the assignments' distances are between and divided by."""
        between = "deviations from the mean" if self.ib_centered else "unit vectors"
        return f"temperature {self.ib_temperature:g}, {between}"


def percentages(result: RetrievalResult) -> dict[str, float]:
    """Return mAP, Rank-k and mINP in percent."""
    ranks = {f"rank{k}": 100 * result.rank(k) for k in RANKS}
    return {"map": 100 * result.map, **ranks, "minp": 100 * result.minp}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Report):
    """Everything that is measured of one trained network, and under which rules."""

    retrieval: RetrievalResult
    verification: Verification
    information: Information
    fisher_score: float | None
    selected_channels: tuple[SelectedChannels, ...]
    root: Path
    """Where the data set lies."""
    data: dict[str, str]
    variant: VariantConfig
    """What was asked for of a data set that has several parts."""
    feature: str
    """What images were compared by."""
    counts: dict[str, int]
    neighbours: list[list[int]]
    """For every query the positions of its nearest gallery images, nearest first; -1 is none."""
    input: tuple[int, int]
    ib_size: tuple[int, int]
    flip: bool
    rerank: KReciprocal | None
    chosen_epoch: ChosenEpoch | None

    def percentages(self) -> dict[str, float]:
        """Return mAP, Rank-k and mINP in percent."""
        return percentages(self.retrieval)

    @property
    def map(self) -> float:
        """Return the mAP in percent."""
        return self.percentages()["map"]

    @property
    def rank1(self) -> float:
        """Return Rank-1 in percent."""
        return self.percentages()["rank1"]

    def files(self) -> dict[str, object]:
        """Return what pictures of the ranking need."""
        variant = self.variant.model_dump(mode="json")
        data = {"data": str(self.root.resolve()), "variant": variant}
        return {"neighbours.json": {**data, "neighbours": self.neighbours}}

    def lines(self) -> list[str]:
        """Return the rules and what is measured beside retrieval."""
        result, rerank = self.retrieval, "re-ranked" if self.rerank else "not re-ranked"
        at = f" at {self.information.scale}"
        fisher = [] if self.fisher_score is None else [f"  Fisher {self.fisher_score:8.3f}"]
        return [
            f"         {result.ap_rule} AP, {result.metric}, {rerank},"
            f" {'mirror images averaged' if self.flip else 'no mirror images'};"
            f" {result.num_queries:,} queries, {result.num_gallery:,} gallery images",
            *(
                f"     TPR {100 * p.tpr:6.2f} % at FPR {p.fpr:g} (cosine {p.threshold:.4f})"
                for p in self.verification.points
            ),
            f" IB loss {self.information.ib_loss:8.5f} nats{at}",
            f"     IBB {self.information.ibb:8.5f} nats{at}",
            *fisher,
            *(
                f"selected {100 * one.share:6.2f} % of {one.channels} channels in {one.module}"
                for one in self.selected_channels
            ),
        ]

    def record(self) -> dict[str, object]:
        """Return plain values for ``metrics.json``, the protocol stated with the numbers."""
        result = self.retrieval
        evaluated = {
            "query": result.num_queries,
            "query_without_match": result.num_skipped,
            "gallery": result.num_gallery,
            "gallery_junk": result.num_junk,
            "right_pairs": self.verification.num_right,
            "wrong_pairs": self.verification.num_wrong,
        }
        return {
            **self.percentages(),
            "cmc": result.cmc,
            "roc": [asdict(point) for point in self.verification.points],
            **asdict(self.information),
            "fisher_score": self.fisher_score,
            "selected_channels": [asdict(module) for module in self.selected_channels],
            "protocol": self._protocol(),
            "data": self.data,
            "counts": self.counts,
            "evaluated": evaluated,
            "chosen_epoch": self.chosen_epoch.model_dump() if self.chosen_epoch else None,
        }

    def _protocol(self) -> dict[str, object]:
        """Return the rules of the numbers, those of single measures under their names."""
        result = self.retrieval
        return {
            "feature": self.feature,
            "flip": self.flip,
            "input": list(self.input),
            "normalisation": "L2" if result.metric == "cosine" else "none",
            "metric": result.metric,
            "ap_rule": result.ap_rule,
            "camera_filter": result.camera_filter,
            "junk": f"gallery images of identity {JUNK} left out",
            "ties": "count against the match",
            "max_rank": len(result.cmc),
            "re_ranking": asdict(self.rerank) if self.rerank else False,
            "roc": f"cosine told apart to {RESOLUTION:.1e}, pairs as for mAP, without re-ranking",
            "information": "training images, features before the neck, input pooled to "
            f"{self.ib_size[0]}x{self.ib_size[1]}, assignments at "
            f"{self.information.scale}",
            "fisher_score": "retrieval features of all images of the queries' identities",
            "selected_channels": "mean over tokens of all query and gallery images",
        }
