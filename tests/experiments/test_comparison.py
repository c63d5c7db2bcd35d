"""What a report says of a sweep's settings, from made-up tables."""

from collections.abc import Mapping

import pandas as pd
import pytest

from dcsnas.experiments.comparison import compared


def table(scores: Mapping[tuple[float, int], float | None]) -> pd.DataFrame:
    """Return the table of a sweep over ``weight`` with the given scores by (weight, seed)."""
    rows = [{"weight": w, "seed": seed, "map": score} for (w, seed), score in scores.items()]
    return pd.DataFrame(rows)


def said(scores: Mapping[tuple[float, int], float | None]) -> list[str]:
    return compared(table(scores), ["weight"], "map", "map")


def test_the_best_setting_is_compared_with_the_next_seed_by_seed() -> None:
    """Differences 1, 2 and 6: standard error sqrt(7 / 3), 4.3027 of them to each side."""
    scores = {
        **{(0.0, seed): value for seed, value in enumerate((10.0, 20.0, 30.0))},
        **{(0.5, seed): value for seed, value in enumerate((11.0, 22.0, 36.0))},
        **{(1.0, seed): 1.0 for seed in range(3)},
    }
    assert said(scores) == [
        "weight 0.5 has the best mean mAP, 23.0 %: +3.00 \u00b1 1.53 points against weight 0 "
        "(standard error over 3 seeds; 95 %: -3.57 to +9.57)"
    ]


def test_seeds_that_one_of_them_lacks_are_left_out() -> None:
    scores = {(0.0, 0): 1.0, (0.0, 1): 2.0, (0.5, 0): 3.0, (0.5, 1): 5.0, (0.5, 2): 90.0}
    (line,) = said(scores)
    assert "+2.50 \u00b1 0.50 points against weight 0 (standard error over 2 seeds" in line


@pytest.mark.parametrize(
    "scores",
    [
        {(0.0, 0): 1.0, (0.0, 1): 2.0},
        {(0.0, 0): 1.0, (0.5, 0): 2.0},
        {(0.0, 0): 1.0, (0.0, 1): 3.0, (0.5, 0): 2.0, (0.5, 1): None},
    ],
)
def test_nothing_is_said_without_two_pairs(
    scores: Mapping[tuple[float, int], float | None],
) -> None:
    assert said(scores) == []


def test_nothing_is_said_of_a_sweep_without_repeats() -> None:
    plain = pd.DataFrame([{"weight": 0.0, "map": 1.0}, {"weight": 1.0, "map": 2.0}])
    assert compared(plain, ["weight"], "map", "map") == []
