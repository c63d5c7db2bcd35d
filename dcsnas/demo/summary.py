"""What the demo shows at its end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The numbers of ``summary.json``: milliseconds, millions, billions, percentages in 0-100."""

    space_log10: float
    table_entries: int
    profile_s: float
    predicted_ms: float
    measured_ms: float
    params_m: float
    macs_g: float
    map: float
    rank1: float
    random_map: float
    random_rank1: float
    random_predicted_ms: float
    random_measured_ms: float
    histogram_map: float
    histogram_rank1: float
    total_s: float

    def lines(self) -> list[str]:
        """Return the numbers as sentences."""
        return [
            f"search space: 10^{self.space_log10:.1f} architectures",
            f"latency table: {self.table_entries} operators measured in {self.profile_s:.0f} s",
            f"derived network: {self.params_m:.3f} M parameters, {self.macs_g:.4f} GMACs, "
            f"predicted {self.predicted_ms:.3f} ms, measured {self.measured_ms:.3f} ms",
            f"derived network, retrained:           mAP {self.map:5.1f} %  "
            f"Rank-1 {self.rank1:5.1f} %",
            f"random network of the same latency:   mAP {self.random_map:5.1f} %  "
            f"Rank-1 {self.random_rank1:5.1f} %",
            f"colour histogram:                     mAP {self.histogram_map:5.1f} %  "
            f"Rank-1 {self.histogram_rank1:5.1f} %",
            f"total: {self.total_s:.0f} s",
        ]
