"""A share of a run's epochs in a file is a number of them in its configuration."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig, validate_search
from dcsnas.config.stages import PretrainConfig, RetrainConfig

NEEDED: dict[str, Any] = {"space": "tiny", "table": "t.json", "data": {"root": "d"}}


def search_with(warmup: object, **changes: Any) -> SearchConfig:
    content = {**NEEDED, "architecture": {"warmup_epochs": warmup}, **changes}
    return validate_search(content, "s.yaml")


@given(share=st.floats(0, 1, exclude_min=True, exclude_max=True), epochs=st.integers(1, 500))
def test_a_share_is_rounded_and_leaves_an_epoch(share: float, epochs: int) -> None:
    found = search_with(share, epochs=epochs).architecture.warmup_epochs
    assert isinstance(found, int)
    assert 0 <= found < epochs
    assert abs(found - share * epochs) <= max(0.5, share * epochs - (epochs - 1))


def test_a_share_of_the_epochs_that_a_stage_has_by_default() -> None:
    assert search_with(0.1).architecture.warmup_epochs == 30
    assert (
        PretrainConfig(**{"data": {"root": "d"}, "classifier_epochs": 0.1}).classifier_epochs == 35
    )
    assert (
        RetrainConfig(**{"data": {"root": "d"}, "classifier_epochs": 0.1}).classifier_epochs == 40
    )


def test_the_configuration_of_a_run_holds_the_number() -> None:
    """So a run that began with a number of epochs continues with the share, and the other way."""
    shares, numbers = (search_with(given, epochs=20) for given in (0.2, 4))
    assert shares == numbers
    dumped = shares.model_dump(mode="json")
    assert dumped["architecture"]["warmup_epochs"] == 4
    assert validate_search(dumped, "config.yaml") == numbers


@pytest.mark.parametrize(("given", "message"), [
    (1.5, "expected a whole number of epochs, or a share of all such as 0.2 (given: 1.5)"),
    (-0.5, "expected a whole number of epochs, or a share of all such as 0.2 (given: -0.5)"),
    (20, "is 20 of 20 epochs, so the architecture would never be trained; give less, or a share"),
])  # fmt: skip
def test_what_is_neither(given: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        search_with(given, epochs=20)
    assert str(caught.value).startswith("s.yaml: ")
    assert "architecture.warmup_epochs" in str(caught.value)
    assert message in str(caught.value)
