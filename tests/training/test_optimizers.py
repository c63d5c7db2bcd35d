"""Which parameters decay, what each optimiser's name means, and the schedule step by step."""

from typing import Any

import pytest
import torch
from torch import nn, optim

from dcsnas.config.errors import UserError
from dcsnas.config.stages import OptimizerConfig
from dcsnas.config.strict import validate
from dcsnas.nn.heads import BNNeck
from dcsnas.training.optimizers import decay_groups, make_optimizer, make_scheduler, optimization


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), BNNeck(2, 5)
    )


def names_in(network: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    names = {id(p): name for name, p in network.named_parameters()}
    return [names[id(p)] for p in parameters]


def test_kernels_and_matrices_decay_and_nothing_else() -> None:
    network = small_network()
    decayed, spared = decay_groups(network.parameters(), 0.25)
    assert decayed["weight_decay"] == 0.25
    assert names_in(network, decayed["params"]) == ["0.weight", "3.weight", "4.classifier.weight"]
    assert spared["weight_decay"] == 0.0
    # 4.norm.bias, the neck's shift, is not trained
    expected = ["0.bias", "1.weight", "1.bias", "3.bias", "4.norm.weight"]
    assert names_in(network, spared["params"]) == expected


def test_held_parameters_are_left_out() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    decayed, spared = decay_groups(network.parameters(), 0.1)
    trained = names_in(network, [*decayed["params"], *spared["params"]])
    assert not [name for name in trained if name.startswith("0.")]
    assert "3.weight" in trained


OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


@pytest.mark.parametrize(("name", "kind"), OPTIMIZERS.items())
def test_names_make_their_optimizer(name: Any, kind: type[optim.Optimizer]) -> None:
    config = OptimizerConfig(name=name, lr=0.3, momentum=0.6, weight_decay=0.02)
    optimizer = make_optimizer(config, small_network())
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    assert {group["lr"] for group in optimizer.param_groups} == {0.3}
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.6}


def test_step_without_a_loss_shrinks_kernels_alone() -> None:
    network = small_network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    config = OptimizerConfig(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.5)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    make_optimizer(config, network).step()
    for name, p in network.named_parameters():
        factor = 1 - 0.1 * 0.5 if p.dim() > 1 else 1.0
        torch.testing.assert_close(p.detach(), factor * before[name])


def test_unknown_optimizer_cannot_be_configured() -> None:
    with pytest.raises(UserError, match=r"name.*'sgd', 'adam' or 'adamw'"):
        validate(OptimizerConfig, {"name": "lion"}, "test.yaml")


def rates(config: OptimizerConfig, total: int) -> list[float]:
    """Return the learning rate of each of ``total`` steps."""
    network = small_network()
    optimizer = make_optimizer(config, network)
    scheduler = make_scheduler(config, optimizer, total)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_steps_fall_at_their_share_of_the_run() -> None:
    config = OptimizerConfig(lr=2.0, milestones=(0.5, 0.8), gamma=0.1)
    expected = [2.0] * 5 + [0.2] * 3 + [0.02] * 2
    assert rates(config, 10) == pytest.approx(expected)


def test_warmup_is_linear_from_a_hundredth() -> None:
    config = OptimizerConfig(lr=1.0, schedule="constant", warmup=0.5)
    # 0.01 + 0.99 * step / 4
    assert rates(config, 8) == pytest.approx([0.01, 0.2575, 0.505, 0.7525, 1, 1, 1, 1])


def test_cosine_with_warmup_is_their_product() -> None:
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup=0.25)
    # cos at step k of 4: 1, (2 + sqrt 2) / 4, 1/2, (2 - sqrt 2) / 4; the first is warmed up
    assert rates(config, 4) == pytest.approx([0.01, 0.853553, 0.5, 0.146447], rel=1e-5)


def test_lightning_steps_the_schedule_every_batch() -> None:
    made: Any = optimization(OptimizerConfig(lr=1.0), small_network(), 10)
    assert made["lr_scheduler"]["interval"] == "step"
    assert made["lr_scheduler"]["scheduler"].optimizer is made["optimizer"]
