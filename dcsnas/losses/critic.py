"""The critic of self-critical attention learning: what a gain it expects of an attention map.

Source: Chen et al., "Self-Critical Attention Learning for Person Re-Identification", ICCV 2019:
``V = C(X, A | phi)``, ``R = R_c + R_a``, ``J_mse = (V - R)^2``. What C is made of is ours.
Legend: B images, C channels, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

HIDDEN = 64


class Critic(nn.Module):
    """Two linear layers on the pooled map, the pooled map under attention, and the attention."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first = nn.Linear(length, HIDDEN)
        self.second = nn.Linear(HIDDEN, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """Return the values [B] of what ``describe`` gave."""
        return self.second(torch.relu(self.first(seen))).squeeze(1)


def describe(x: Tensor, weights: Tensor, described: Tensor) -> Tensor:
    """Return what a critic sees of maps [B, C, H, W], their weights, and these as vectors.

    The maps are constants: the gradient goes to the weights alone.
    """
    x = x.detach()
    return torch.cat([x.mean((2, 3)), (x * weights).mean((2, 3)), described], dim=1).float()


def reward(logits: Tensor, plain: Tensor, labels: Tensor) -> Tensor:
    """Return R [B] of 0, 1 or 2: 1 for the right class, and 1 for a gain in its probability.

    Of logits [B, K] with attention and ``plain`` ones without, and labels [B].
    """
    right = logits.argmax(1) == labels
    rows = torch.arange(len(labels), device=labels.device)
    with_attention, without = (one.float().softmax(1)[rows, labels] for one in (logits, plain))
    return right.float() + (with_attention > without).float()


class Critics(nn.Module):
    """A critic for each attention module, and the optimiser that trains them by the reward.

    No gradient flows into their parameters but in ``learn``, and none out of ``learn``. The state
    of the optimiser is part of the module's.
    """

    def __init__(self, lengths: Sequence[int], lr: float) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the network's draws are those without critics
            self.critics = nn.ModuleList(Critic(length) for length in lengths)
        self.critics.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.critics.parameters(), lr)

    def forward(self, seen: Sequence[Tensor]) -> Tensor:
        """Return the mean value over images and attention modules, for the agents to raise.

        By copies of the critics' weights, which ``learn`` changes before backward runs.
        """
        values = []
        for critic, one in zip(self.critics, seen, strict=True):
            held = {name: p.detach().clone() for name, p in critic.named_parameters()}
            values.append(functional_call(critic, held, (one,)).mean())
        return torch.stack(values).mean()

    @torch.enable_grad()
    def learn(self, seen: Sequence[Tensor], rewards: Tensor) -> Tensor:
        """Take a step towards the rewards [B]; return the mean squared error before it."""
        parameters = list(self.critics.parameters())
        self.critics.requires_grad_(True)
        try:
            pairs = zip(self.critics, seen, strict=True)
            errors = [(critic(one.detach()) - rewards).square().mean() for critic, one in pairs]
            error = torch.stack(errors).mean()
            gradients = torch.autograd.grad(error, parameters)
        finally:
            self.critics.requires_grad_(False)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        return error.detach()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's state for a checkpoint."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the optimiser's state from a checkpoint."""
        self.optimizer.load_state_dict(state)
