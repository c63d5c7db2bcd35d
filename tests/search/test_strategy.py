"""The search loop's parts: what it trains, in which order, and what the latency term does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.oneshot.pytorch.differentiable import DartsLightningModule
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from nni.nas.strategy import GumbelDARTS
from torch import nn

from dcsnas.config.search import AddConfig, ArchitectureConfig
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.latency.table import predict_ms
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2, PhaseLoader
from dcsnas.search.loop import FBNetV2Module, frozen
from dcsnas.search.supernet import Supernet
from latency_fakes import fake_table, micro_space
from search_setup import search_module_of, small_search

SPACE = micro_space()
TABLE = fake_table(SPACE)


def search_module() -> FBNetV2Module:
    """Return the search loop around a mutated supernet, without a trainer."""
    latency = ExpectedCost(SPACE, SPACE.size, TABLE.latency_ms)
    strategy = FBNetV2(
        config=ArchitectureConfig(),
        objective=CostObjective(AddConfig(form="add"), latency),
    )
    supernet: Any = Supernet(SPACE)
    strategy.mutate_model(supernet)
    module = search_module_of(small_search(Path()), SPACE, classes=3)
    module.set_model(supernet)
    return strategy.configure_oneshot_module(module)


def test_latency_term_alone_moves_the_choices_to_the_fastest_network() -> None:
    module = search_module()
    optimizer = torch.optim.Adam(module.choice_parameters.values(), 0.1)
    start = module.objective.cost(module.probabilities()).item()
    for _ in range(300):
        optimizer.zero_grad()
        module.objective.cost(module.probabilities()).backward()
        assert all(p.grad is not None and p.grad.any() for p in module.choice_parameters.values())
        optimizer.step()
    choice = {d.label: d.options[0] for d in SPACE.decisions}
    fastest = predict_ms(TABLE, SPACE.architecture(choice).layers, SPACE.size)
    assert fastest < start
    assert module.objective.cost(module.probabilities()).item() == pytest.approx(fastest, rel=0.02)


def test_architecture_parameters_come_in_network_order_every_time() -> None:
    orders = []
    for _ in range(4):
        module = search_module()
        names = {id(p): n for n, p in module.named_parameters()}
        orders.append([names[id(p)] for p in module.arch_parameters()])
    assert all(order == orders[0] for order in orders)
    labels = [name.rsplit(".", 1)[-1] for name in orders[0] if "_arch_alpha" in name]
    assert labels == [decision.label for decision in SPACE.decisions]


def test_masks_are_trained_with_the_architecture() -> None:
    module = search_module()
    names = {id(p): n for n, p in module.named_parameters()}
    chosen = {names[id(p)] for p in module.arch_parameters()}
    weights = {names[id(p)] for p in module.trained_in_weight_phase}
    assert {name for name in chosen if ".theta." in name} == {
        name for name in names.values() if ".theta." in name
    }
    assert not chosen & weights
    assert chosen | weights == set(names.values())


def test_held_parameters_get_no_gradient_and_are_released() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with frozen(layer.parameters()):
        assert not layer.weight.requires_grad
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad


class RecordingLoader(list):
    """A loader of given batches that remembers the epochs it was set to."""

    def __init__(self, batches: list[str]) -> None:
        super().__init__(batches)
        self.epochs: list[int] = []
        self.batch_sampler = self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_an_epoch_is_one_pass_over_each_part() -> None:
    weights, architecture = RecordingLoader(["a", "b", "c"]), RecordingLoader(["x"])
    loader = PhaseLoader(weights, architecture)
    assert list(loader) == [{"train": "a"}, {"train": "b"}, {"train": "c"}, {"val": "x"}]
    assert len(loader) == 4
    loader.sampler.set_epoch(7)
    assert weights.epochs == architecture.epochs == [7]


def test_temperature_falls_exponentially_and_reaches_every_draw() -> None:
    module = search_module()
    config = module.config
    assert module._anneal(0.0) == pytest.approx(config.temperature)
    middle = module._anneal(0.5)
    assert middle == pytest.approx((config.temperature * config.final_temperature) ** 0.5)
    taus = {m.tau for m in module.modules() if hasattr(m, "tau") and hasattr(m, "hard")}
    assert taus == {middle}
    assert module._anneal(1.0) == pytest.approx(config.final_temperature)
    # FBNet: 5.0 * 0.956 per epoch over 90 epochs
    assert config.final_temperature == pytest.approx(5.0 * 0.956**90, rel=0.01)


def test_what_nnis_own_penalty_sees_has_no_gradient() -> None:
    """NNI's DARTS hands ``export_probs()`` to its penalty: plain floats, cut from the graph."""
    supernet: Any = Supernet(SPACE)
    GumbelDARTS().mutate_model(supernet)
    exported = DartsLightningModule.export_probs(_Holding(supernet))  # type: ignore[arg-type]
    assert set(exported) == {decision.label for decision in SPACE.decisions}
    for probabilities in exported.values():
        assert all(type(p) is float for p in probabilities.values())


class _Holding:
    """Just what ``export_probs`` asks of a one-shot module."""

    def __init__(self, supernet: nn.Module) -> None:
        self.supernet = supernet

    def supernet_modules(self) -> list[Any]:
        return [m for m in self.supernet.modules() if isinstance(m, BaseSuperNetModule)]
