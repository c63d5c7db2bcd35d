"""The critic's reward and its learning, apart from any network.

Legend: B images, K classes.
"""

import copy

import torch
from torch import Tensor

from dcsnas.losses.critic import Critics, describe, reward


def test_rewards_are_those_of_a_loop() -> None:
    logits, plain = torch.randn(40, 3), torch.randn(40, 3)
    labels = torch.randint(3, (40,))
    plain[:5] = logits[:5]  # no gain where nothing changes
    found = reward(logits, plain, labels)
    for i in range(40):
        right = 1.0 if max(range(3), key=lambda k: float(logits[i, k])) == labels[i] else 0.0
        p, q = (float(one[i].exp()[labels[i]] / one[i].exp().sum()) for one in (logits, plain))
        assert found[i] == right + (1.0 if p > q else 0.0), i
    assert set(found.tolist()) == {0.0, 1.0, 2.0}


def test_the_attention_alone_is_told_what_it_is_worth() -> None:
    x = torch.randn(6, 4, 3, 2, requires_grad=True)
    source = torch.randn(6, 4, 1, 1, requires_grad=True)
    weights = torch.sigmoid(source)
    critics = Critics([12], lr=0.1)
    critics([describe(x, weights, weights.flatten(1))]).backward()
    assert x.grad is None
    assert source.grad is not None
    assert source.grad.any()
    assert all(p.grad is None for p in critics.parameters())


def test_learning_touches_nothing_but_the_critics() -> None:
    source = torch.randn(64, 5, requires_grad=True)
    seen, critics = source * 1.0, Critics([5], lr=0.02)
    value = critics([seen])  # of before, which backward needs
    rewards = (source.detach()[:, 0] > 0).float() + (source.detach()[:, 1] > 0).float()
    before = [p.clone() for p in critics.parameters()]
    errors = [float(critics.learn([seen], rewards)) for _ in range(200)]
    assert source.grad is None
    assert all(p.grad is None and not p.requires_grad for p in critics.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, critics.parameters(), strict=True))
    assert errors[-1] < 0.3 * float(rewards.var()) < errors[0]
    value.backward()  # by the weights that the value was computed with
    assert source.grad is not None


def test_the_optimisers_state_is_part_of_a_checkpoint() -> None:
    def steps(critics: Critics, count: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        for _ in range(count):
            seen = torch.randn(8, 5, generator=generator)
            critics.learn([seen], seen[:, 0])
        return [p.clone() for p in critics.parameters()]

    first = Critics([5], lr=0.1)
    steps(first, 3)
    second = Critics([5], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for a, b in zip(steps(first, 2), steps(second, 2), strict=True):
        assert torch.equal(a, b)


def test_making_critics_leaves_the_random_state_as_it_is() -> None:
    state = torch.random.get_rng_state()
    Critics([5, 7], lr=0.1)
    assert torch.equal(torch.random.get_rng_state(), state)
