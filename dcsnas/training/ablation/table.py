"""The table of an ablation: means and spreads over seeds, and differences with their errors."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcsnas.config.files import write_csv, write_text
from dcsnas.evaluation.paired import PairedDifference, paired_difference
from dcsnas.training.ablation.step_times import time_ratio

INFORMATION = ("ib_loss", "ibb")


@dataclass(frozen=True)
class Score:
    """What one run came to: percentages and, where the task has them, IB loss and IBB in nats."""

    variant: str
    seed: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class AblationTable:
    """The scores of all runs that are over, and what else is known of each variant.

    ``metric`` is the main score's name; ``against`` says with which variant each is compared, in
    the order of the table; ``costs`` are parameters and MACs; ``times`` milliseconds of a training
    step, by variant and round.
    """

    metric: str
    label: str
    against: Mapping[str, str]
    scores: Sequence[Score]
    costs: Mapping[str, Mapping[str, int]]
    times: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def values(self, variant: str, name: str) -> dict[int, float]:
        """Return a measure of a variant by seed, of the runs that are over."""
        own = (one for one in self.scores if one.variant == variant and name in one.values)
        return {one.seed: one.values[name] for one in own}

    def difference(self, variant: str) -> PairedDifference | None:
        """Return the gain in the main score over what the variant is compared with.

        It is of runs with the same seed; None of the baseline, and of fewer than two pairs.
        """
        other = self.against[variant]
        mine, others = (self.values(name, self.metric) for name in (variant, other))
        seeds = sorted(mine.keys() & others.keys())
        if variant == other or len(seeds) < 2:
            return None
        return paired_difference([mine[seed] for seed in seeds], [others[seed] for seed in seeds])

    @property
    def measures(self) -> list[str]:
        """Return the names of all that was measured, the main score first."""
        found = dict.fromkeys(name for score in self.scores for name in score.values)
        names = [name for name in found if name not in (self.metric, *INFORMATION)]
        return [self.metric, *names, *(name for name in INFORMATION if name in found)]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each variant; None where there is nothing to say."""
        return [self._row(variant) for variant in self.against]

    def _row(self, variant: str) -> dict[str, Any]:
        own = {name: list(self.values(variant, name).values()) for name in self.measures}
        main, gain = own.pop(self.metric), self.difference(variant)
        other = self.against[variant]
        row: dict[str, Any] = {
            "variant": variant,
            "seeds": len(main),
            f"{self.metric}_mean": statistics.fmean(main) if main else None,
            f"{self.metric}_sd": statistics.stdev(main) if len(main) > 1 else None,
            "against": None if other == variant else other,
            "difference": gain.points if gain else None,
            "difference_se": gain.se if gain else None,
            "difference_95": gain.interval if gain else None,
            "pairs": gain.pairs if gain else None,
            "time_ratio": time_ratio(self.times, variant, other),
        }
        for name, values in own.items():
            key = name if name in INFORMATION else f"{name}_mean"
            row[key] = statistics.fmean(values) if values else None
        return {**row, **self.costs[variant]}

    def runs(self) -> list[dict[str, Any]]:
        """Return a row for each run."""
        return [{"variant": s.variant, "seed": s.seed, **s.values} for s in self.scores]

    def conclusions(self) -> list[str]:
        """Return a sentence for each variant whose difference from another is known."""
        found = []
        for variant, other in self.against.items():
            if variant == other:
                continue
            gain = self.difference(variant)
            if gain is None:
                continue
            sure = (
                "significant" if abs(gain.points) > gain.interval else "no significant difference"
            )
            found.append(
                f"{variant} against {other}: {gain} points of {self.label}, {gain.pairs} pairs, "
                f"95 % interval \u00b1 {gain.interval:.2f}: {sure}"
            )
        return found

    def record(self) -> dict[str, Any]:
        """Return plain values for ``ablation.json``."""
        return {
            "metric": self.metric,
            "label": self.label,
            "rows": self.rows(),
            "runs": self.runs(),
            "conclusions": self.conclusions(),
        }

    def write(self, folder: Path) -> None:
        """Write table.csv, runs.csv and table.md into ``folder``."""
        rows = self.rows()
        write_csv(folder / "table.csv", [rows[0], *(row.values() for row in rows)])
        names, runs = ["variant", "seed", *self.measures], self.runs()
        write_csv(folder / "runs.csv", [names, *([run.get(n) for n in names] for run in runs)])
        write_text(folder / "table.md", self.markdown())

    def markdown(self) -> str:
        """Return the table and what follows from it, as Markdown."""
        header, *lines = self.text()
        table = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
        text = "".join(f"| {' | '.join(cells)} |\n" for cells in table)
        return text + "\n" + "".join(f"- {line}\n" for line in self.conclusions())

    def text(self) -> list[list[str]]:
        """Return the cells of the table for people, its header first."""
        second = [name for name in ("rank1", "top5") if name in self.measures]
        information = [name for name in INFORMATION if name in self.measures]
        titles = {"rank1": "Rank-1 %", "top5": "top-5 %", "ib_loss": "IB loss", "ibb": "IBB"}
        header = ["variant", "M params", "GMACs", "seeds", f"{self.label} % (sd)", "difference"]
        header += [*(titles[name] for name in (*second, *information)), "step"]
        return [header, *(self._cells(row, second, information) for row in self.rows())]

    def _cells(self, row: dict[str, Any], second: list[str], information: list[str]) -> list[str]:
        gain = self.difference(row["variant"])
        shown = "" if gain is None else f"{gain} ({row['against']})"
        return [
            row["variant"],
            f"{row['params'] / 1e6:.3f}",
            f"{row['macs'] / 1e9:.4f}",
            str(row["seeds"]),
            _spread(row[f"{self.metric}_mean"], row[f"{self.metric}_sd"]),
            shown,
            *(_number(row[f"{name}_mean"], 2) for name in second),
            *(_number(row[name], 5) for name in information),
            _number(row["time_ratio"], 3),
        ]


def _spread(mean: float | None, sd: float | None) -> str:
    return _number(mean, 2) + ("" if sd is None else f" ({sd:.2f})")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
