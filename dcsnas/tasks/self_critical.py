"""Self-critical attention: a critic judges the attention, and the attention learns from it.

It goes around the objective of any task, and looks at the gates of the network (``nn.attention``).
Source: Chen et al., "Self-Critical Attention Learning for Person Re-Identification", ICCV 2019, of
which the formulas alone were to be had; ``docs/training.md`` says what is ours.
Legend: B images, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcsnas.config.stages import CriticConfig
from dcsnas.losses.critic import Critics, describe, reward
from dcsnas.nn.attention.gates import gates
from dcsnas.nn.heads import Output, TaskNetwork
from dcsnas.tasks.task import Objective


class Judged(NamedTuple):
    """What was seen of a batch beside its output."""

    agents: tuple[Tensor, ...]
    """Of each gate, what its critic sees, with the gradient to its agent."""
    tried: tuple[Tensor, ...]
    """The same of the attention that is rewarded, without a gradient."""
    logits: Tensor
    """[B, K] under that attention."""
    plain: Tensor
    """[B, K] without attention."""


class SelfCritical(Objective):
    """The objective of a task, and the critics of the attention in the network that learns it."""

    def __init__(
        self, objective: Objective, config: CriticConfig, network: nn.Module, *, lr: float
    ) -> None:
        super().__init__()
        found = gates(network).values()
        assert found, "a training refuses networks without"
        self.objective = objective
        self.config = config
        lengths = [2 * gate.channels + gate.agent.described for gate in found]
        self.critics = Critics(lengths, config.lr or lr)

    def run(self, network: TaskNetwork, images: Tensor) -> Output:
        """Run ``network``, and once more without attention; with noise also a third time."""
        output, agents = _watching(network, lambda: self.objective.run(network, images))
        with torch.no_grad(), torch.random.fork_rng(_devices(images)), _left_as_it_is(network):
            with _changed(network, torch.ones_like):
                plain = network(images).logits
            tried, logits = agents, output.logits.detach()
            if self.config.noise:
                with _changed(network, self._perturbed):
                    noisy, tried = _watching(network, lambda: network(images))
                logits = noisy.logits
        judged = Judged(agents, tuple(one.detach() for one in tried), logits, plain)
        return output._replace(extra=judged)

    def _perturbed(self, weights: Tensor) -> Tensor:
        noise = self.config.noise * torch.randn_like(weights)
        return (weights + noise).clamp(0, 1)

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the task's objective needs of the images."""
        return self.objective.inputs(images)

    def forward(
        self, output: Output, inputs: Tensor, labels: Tensor, *, progress: float
    ) -> dict[str, Tensor]:
        """Return the task's terms, ``value``, and the mean ``reward``.

        The loss falls by ``weight`` times the value once the warm-up is over.
        """
        terms = self.objective(output, inputs, labels, progress=progress)
        judged: Judged = output.extra
        terms["value"] = self.critics(judged.agents)
        terms["reward"] = reward(judged.logits, judged.plain, labels).mean()
        if self.config.weight and progress >= self.config.warmup:
            terms["loss"] = terms["loss"] - self.config.weight * terms["value"]
        return terms

    def term_weights(self, progress: float) -> dict[str, float]:
        """Return what the task's objective weighs its terms by."""
        return self.objective.term_weights(progress)

    def observe(self, output: Output, inputs: Tensor, labels: Tensor) -> None:
        """Have the task's objective take in a batch, and the critics learn its rewards."""
        self.objective.observe(output, inputs, labels)
        judged: Judged = output.extra
        self.critics.learn(judged.tried, reward(judged.logits, judged.plain, labels))

    def measures(self) -> dict[str, Tensor]:
        """Return what the task's objective measures over an epoch."""
        return self.objective.measures()

    def begin_epoch(self) -> None:
        """Prepare for an epoch."""
        self.objective.begin_epoch()

    def end_epoch(self) -> None:
        """Conclude an epoch."""
        self.objective.end_epoch()


def _watching(network: nn.Module, run: Callable[[], Output]) -> tuple[Output, tuple[Tensor, ...]]:
    """Return what ``run`` gives, and of each gate, in network order, what its critic sees."""
    agents = [gate.agent for gate in gates(network).values()]
    seen: dict[nn.Module, Tensor] = {}

    def note(agent: Any, inputs: tuple[Tensor], weights: Tensor) -> None:
        x = inputs[0].detach()
        if torch.is_grad_enabled():  # J_cri is the agent's alone, and the map is the backbone's
            weights = agent.forward(x)
        seen[agent] = describe(x, weights, agent.describe(weights))

    with _hooked(agents, note):
        output = run()
    return output, tuple(seen[agent] for agent in agents)


@contextmanager
def _changed(network: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have the agents of ``network`` give what ``change`` makes of their weights."""
    agents = [gate.agent for gate in gates(network).values()]
    with _hooked(agents, lambda agent, inputs, weights: change(weights)):
        yield


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


@contextmanager
def _left_as_it_is(network: nn.Module) -> Iterator[None]:
    """Leave BatchNorm's running statistics as they are, in training too."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _devices(images: Tensor) -> list[torch.device]:
    return [images.device] if images.device.type == "cuda" else []
