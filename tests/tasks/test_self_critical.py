"""The critic within a task's objective: what it learns, what follows it, what it leaves alone.

Shapes: B images, C channels, K classes.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.stages import CriticConfig
from dcsnas.losses.critic import reward
from dcsnas.nn.attention.gates import ChannelAgent, Gate, SpatialAgent
from dcsnas.nn.heads import Head, LinearHead, Output, TaskNetwork
from dcsnas.tasks.self_critical import Judged, SelfCritical
from dcsnas.tasks.task import Objective

BATCH, STEPS = 64, 300


class Nothing(Objective):
    """An objective that asks for nothing, so that all learning is the critic's."""

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        return {"loss": 0.0 * output.logits.sum()}


class Larger(Head):
    """Says class 0 where the first channel is the larger one of the first two."""

    def forward(self, features: Tensor) -> Tensor:
        difference = 4 * (features[:, 0] - features[:, 1])
        return torch.stack([difference, torch.zeros_like(difference)], dim=1)


def learn(*, weight: float, noise: float, seed: int) -> tuple[list[float], list[float]]:
    """Return, step by step, the mean reward, and the critic's error over the rewards' variance.

    Every image is of class 0. So the reward is a known function of the attention a on channels x:
    1 for ``a0 x0 > a1 x1``, and 1 for ``a0 x0 - a1 x1 > x0 - x1``. It is 2 for all images where a0
    is large and a1 small.
    """
    torch.manual_seed(seed)
    gate = Gate(ChannelAgent(4, reduction=1), 4)
    network = TaskNetwork(nn.Sequential(gate, nn.Flatten()), Larger())
    config = CriticConfig(weight=weight, noise=noise, warmup=0.3)
    objective = SelfCritical(Nothing(), config, network, lr=0.01)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    labels, rewards, errors = torch.zeros(BATCH, dtype=torch.long), [], []
    for step in range(STEPS):
        images = torch.rand(BATCH, 4, 1, 1) + 0.5
        output = objective.run(network, images)
        terms = objective(output, images, labels, progress=step / STEPS)
        judged: Judged = output.extra
        given = reward(judged.logits, judged.plain, labels)
        values = objective.critics.critics[0](judged.tried[0])
        errors.append(float((values - given).square().mean() / given.var()))
        rewards.append(float(terms["reward"]))
        objective.observe(output, images, labels)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    return rewards, errors


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_critic_learns_the_reward_and_the_agent_follows(seed: int) -> None:
    rewards, errors = learn(weight=0.3, noise=0.2, seed=seed)
    assert mean(errors[60:90]) < 0.5, "before the agent listens, after 90 steps"
    assert mean(errors[60:90]) < 0.6 * mean(errors[:10])
    before, after = mean(rewards[60:90]), mean(rewards[-30:])
    assert before < 1.6
    assert after > 1.9
    unheard, _ = learn(weight=0.0, noise=0.2, seed=seed)
    assert unheard[:90] == rewards[:90], "the warm-up is without effect"
    assert abs(mean(unheard[-30:]) - before) < 0.15, "the rise is the critic's doing"


def small(kind: str) -> TaskNetwork:
    agent = {
        "channel": lambda: ChannelAgent(6, reduction=2),
        "spatial": lambda: SpatialAgent(6, width=2, kernel=3),
    }[kind]()
    trunk = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), Gate(agent, 6), nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return TaskNetwork(trunk, LinearHead(6, 3))


class Linear(Objective):
    """A loss of the logits alone."""

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(output.logits, labels)}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_looking_changes_nothing(kind: str, noise: float) -> None:
    images = torch.randn(8, 3, 20, 12)
    plain, watched = small(kind), small(kind)
    watched.load_state_dict(plain.state_dict())
    objective: Any = SelfCritical(Linear(), CriticConfig(weight=0, noise=noise), watched, lr=0.1)
    state = torch.random.get_rng_state()
    expected, found = plain(images), objective.run(watched, images)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(found.logits, expected.logits)
    for name, tensor in plain.state_dict().items():  # BatchNorm's statistics as well
        assert torch.equal(watched.state_dict()[name], tensor), name
    assert not any(module._forward_hooks for module in watched.modules())
    labels = torch.randint(3, (8,))
    terms = objective(found, images, labels, progress=1.0)
    objective.observe(found, images, labels)
    Linear()(expected, images, labels, progress=1.0)["loss"].backward()
    terms["loss"].backward()
    for (name, one), other in zip(plain.named_parameters(), watched.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad), name


@torch.no_grad()
def test_without_attention_every_weight_is_one() -> None:
    network = small("channel")
    objective = SelfCritical(Linear(), CriticConfig(), network, lr=0.1)
    images = torch.randn(8, 3, 20, 12)
    judged: Judged = objective.run(network, images).extra
    trunk: Any = network.backbone
    expected = network.neck(trunk[3:](trunk[:2](images)))
    torch.testing.assert_close(judged.plain, expected)
    assert (judged.logits - judged.plain).abs().max() > 1e-4


def test_only_the_agent_hears_of_the_value() -> None:
    network = small("spatial")
    objective = SelfCritical(Linear(), CriticConfig(weight=1.0, warmup=0.5), network, lr=0.1)
    images, labels = torch.randn(8, 3, 20, 12), torch.randint(3, (8,))
    output = objective.run(network, images)
    terms = objective(output, images, labels, progress=0.5)
    objective.observe(output, images, labels)
    terms["value"].backward(retain_graph=True)
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == (".agent." in name), name
    early = objective(output, images, labels, progress=0.49)
    base = Linear()(output, images, labels, progress=0.0)["loss"]
    assert torch.equal(early["loss"], base)
    torch.testing.assert_close(terms["loss"], base - terms["value"])
