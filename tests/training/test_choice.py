"""The choice of eta from made-up scores: means, paired differences, and how it is worded."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.training.eta_choice import EtaChoice, FoldScore


def choice_of(scores: dict[float, list[float]]) -> EtaChoice:
    """Return the choice from the mAP of every fold by eta; the rows in no helpful order."""
    rows = [
        FoldScore(eta, fold, value, value + 10, eta + fold, -eta)
        for eta, values in scores.items()
        for fold, value in enumerate(values, 1)
    ]
    return EtaChoice(tuple(reversed(rows)))


TABLES = st.integers(2, 6).flatmap(
    lambda folds: st.dictionaries(
        st.sampled_from([0.0, 0.01, 0.1, 1.0, 3.0]),
        st.lists(st.floats(0, 100), min_size=folds, max_size=folds),
        min_size=2,
    )
)


@given(TABLES)
def test_numbers_are_numpys(scores: dict[float, list[float]]) -> None:
    choice = choice_of(scores)
    assert choice.etas == sorted(scores)
    for eta, values in scores.items():
        assert choice.values(eta, "map") == values
        assert choice.mean(eta, "map") == pytest.approx(np.mean(values), abs=1e-9)
        assert choice.deviation(eta) == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        differences = np.subtract(values, scores[min(scores)])
        gain = choice.advantage(eta, choice.reference)
        assert gain.points == pytest.approx(differences.mean(), abs=1e-9)
        se = differences.std(ddof=1) / math.sqrt(len(values))
        assert gain.se == pytest.approx(se, abs=1e-9)
    assert choice.mean(choice.chosen, "map") == max(choice.mean(eta, "map") for eta in scores)


def test_the_best_mean_wins_and_of_equal_ones_the_smaller_eta() -> None:
    assert choice_of({0: [50, 52], 0.1: [40, 66], 1: [51, 52]}).chosen == 0.1
    tied = choice_of({1: [50, 52], 0: [40, 41], 0.1: [52, 50]})
    assert tied.ranked == [0.1, 1, 0]


def test_a_constant_gain_is_certain_however_far_apart_the_folds_are() -> None:
    gain = choice_of({0: [10, 50, 90], 0.1: [12, 52, 92]}).advantage(0.1, 0)
    assert (gain.points, gain.se, gain.clear) == (2, 0, True)
    assert str(gain) == "+2.00 \u00b1 0.00"


def test_a_clear_choice_is_stated_against_the_next_and_against_none() -> None:
    # differences to 0.3: 2, 4, 3 -> 3 +- 1/sqrt(3); to 0: 10, 12, 11
    choice = choice_of({0: [40, 50, 60], 0.1: [50, 62, 71], 0.3: [48, 58, 68], 1: [1, 2, 3]})
    assert choice.conclusion() == (
        "eta 0.1 has the best mean mAP of 3 folds, 61.00 %: +3.00 \u00b1 0.58 points against eta "
        "0.3 and +11.00 \u00b1 0.58 points against eta 0."
    )


def test_an_advantage_within_one_standard_error_is_called_that() -> None:
    # differences to 0.1: 3, -1, 1 -> 1 +- 2/sqrt(3)
    choice = choice_of({0: [10, 10, 10], 0.1: [47, 51, 49], 0.3: [50, 50, 50], 1: [0, 0, 0]})
    assert choice.conclusion().endswith(
        ": +1.00 \u00b1 1.15 points against eta 0.1 and +40.00 \u00b1 0.00 points against eta 0. "
        "The advantage over eta 0.1 is within one standard error: these folds do not tell them "
        "apart."
    )
    # 0.1 is neither the next nor the reference, but as little told apart as they are
    most = choice_of({0: [49, 51], 0.1: [52, 46], 0.2: [49, 52], 0.3: [51, 50], 1: [0, 0]})
    assert "over eta 0, 0.1 and 0.3 is within one standard error" in most.conclusion()


def test_equal_scores_are_not_told_apart() -> None:
    choice = choice_of({0: [50, 60], 0.1: [50, 60]})
    assert choice.chosen == 0
    assert "+0.00 \u00b1 0.00 points against eta 0.1. The advantage over eta 0.1 is within one" in (
        choice.conclusion()
    )


def test_a_choice_at_the_upper_end_says_so_and_one_without_the_bound_names_the_next() -> None:
    rising = choice_of({0: [10, 11], 0.1: [20, 21], 1: [30, 31]})
    assert rising.conclusion().endswith("It is the largest eta tried; a larger one may be better.")
    falling = choice_of({0: [30, 31], 0.1: [20, 21], 1: [10, 11]}).conclusion()
    assert falling.endswith("30.50 %: +10.00 \u00b1 0.00 points against eta 0.1.")


def test_the_record_and_the_table_hold_every_number(tmp_path: Path) -> None:
    choice = choice_of({0: [40, 50], 0.1: [50, 64]})
    record = choice.record()
    assert (record["chosen"], record["reference"]) == (0.1, 0)
    half = 2 * 12.7062  # two standard errors at one degree of freedom
    assert record["etas"] == [
        {
            "advantage_low95": 0, "advantage_high95": 0, "folds": 2,
            "eta": 0, "map_mean": 45, "rank1_mean": 55, "ibb_mean": 1.5, "ib_loss_mean": 0,
            "bound_percent_mean": 0,
                "map_sd": pytest.approx(50**0.5), "advantage": 0, "advantage_se": 0,
        },
        {
            "advantage_low95": pytest.approx(12 - half, abs=1e-3),
            "advantage_high95": pytest.approx(12 + half, abs=1e-3), "folds": 2,
            "eta": 0.1, "map_mean": 57, "rank1_mean": 67, "ibb_mean": 1.6, "ib_loss_mean": -0.1,
            "bound_percent_mean": 0,
                "map_sd": pytest.approx(98**0.5), "advantage": 12, "advantage_se": pytest.approx(2),
        },
    ]  # fmt: skip
    choice.write_csv(tmp_path / "eta.csv")
    with (tmp_path / "eta.csv").open() as file:
        rows = list(csv.DictReader(file))
    read = {
        FoldScore(
            float(r["eta"]),
            int(r["fold"]),
            *(float(r[n]) for n in ("map", "rank1", "ibb", "ib_loss")),
        )
        for r in rows
    }
    assert read == set(choice.scores)
