"""Averaged weights, and BatchNorm statistics of what is evaluated."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.stages import IMAGENET_MEAN, IMAGENET_STD
from dcsnas.data.augment import Normalize
from dcsnas.data.loading import ImageSet
from dcsnas.data.reid import read_reid
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.inherit import recalibrate
from dcsnas.nn.weights import read_header, read_state
from dcsnas.training.module import TaskModule
from outcome_setup import (
    SPACE,
    STATISTICS,
    UNCHANGED,
    WITH_MASKS,
    State,
    copy_of,
    different,
    run,
)


@pytest.fixture
def after_steps(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """Return a list that receives the network's state after every step."""
    states: list[State] = []

    def watch(self: TaskModule, *_: Any) -> None:
        states.append(copy_of(self.network))

    monkeypatch.setattr(TaskModule, "on_train_batch_end", watch)
    return states


def test_averaged_weights_are_those_of_a_loop(folder: Path, after_steps: list[State]) -> None:
    result = run(folder, "averaged", ema=0.8, augment=UNCHANGED)
    assert len(after_steps) > 20
    found = read_state(result.weights)
    network, _, _ = load_reid_network(result.weights)
    for name, parameter in network.named_parameters():
        expected = after_steps[0][name].double()
        for state in after_steps[1:]:
            expected = 0.8 * expected + 0.2 * state[name].double()
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-5, atol=1e-6)
        if name != "neck.norm.bias":  # not trained
            assert not torch.equal(found[name], after_steps[-1][name]), name
    # BatchNorm's statistics are those of this network, and no average of other networks'
    check_statistics(folder, network, found)


def check_statistics(folder: Path, network: torch.nn.Module, found: State) -> None:
    """Compare with those measured over all training images, unchanged, in one batch."""
    images = ImageSet(read_reid(folder / "people").train, SPACE.size)
    pixels = torch.stack([images[i][0] for i in range(len(images))])
    recalibrate(network, [Normalize(IMAGENET_MEAN, IMAGENET_STD)(pixels)])
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(found[name], buffer, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_without_drawn_masks(folder: Path, after_steps: list[State]) -> None:
    """A network with masks drawn in training is evaluated under others, and is measured so."""
    result = run(folder, "masked", architecture=WITH_MASKS, augment=UNCHANGED)
    found, last = read_state(result.weights), after_steps[-1]
    changed = different(found, last)
    assert changed
    assert all(name.endswith(STATISTICS) for name in changed)
    network, _, _ = load_reid_network(result.weights)
    check_statistics(folder, network, found)


def test_statistics_are_drawn_by_the_seed_alone(folder: Path) -> None:
    state = torch.random.get_rng_state()
    first = run(folder, "first", architecture=WITH_MASKS, epochs=1)
    torch.manual_seed(17)
    again = run(folder, "again", architecture=WITH_MASKS, epochs=1)
    torch.random.set_rng_state(state)
    assert not different(read_state(first.weights), read_state(again.weights))


def test_averaging_leaves_the_training_as_it_is(folder: Path, after_steps: list[State]) -> None:
    run(folder, "beside", ema=0.8)
    last = after_steps[-1]
    plain = run(folder, "plain")
    assert not different(read_state(plain.weights), last)
    assert plain.chosen_epoch is None
    assert read_header(plain.weights).chosen_epoch is None
    none = run(folder, "no_memory", ema=0.0)
    found = different(read_state(none.weights), last)
    assert not [name for name in found if not name.endswith(STATISTICS)]
