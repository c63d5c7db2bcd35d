"""Adam with one scale a group, against torch's and against a plain loop."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from dcsnas.training.optimizers import SharedAdam

SHAPES = ((3,), (2, 2))


def parameters() -> list[nn.Parameter]:
    draws = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=draws, dtype=torch.double)) for s in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(step)
    return [torch.randn(shape, generator=draws, dtype=torch.double) for shape in SHAPES]


def walk(optimizer: Any, trained: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(trained, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()


def shared(trained: list[nn.Parameter], **changes: Any) -> SharedAdam:
    return SharedAdam([{"params": trained, "shared": True}], 0.1, 0.0, **changes)


def test_a_group_that_is_not_shared_is_torchs_adam() -> None:
    own, theirs = parameters(), parameters()
    walk(SharedAdam([{"params": own}], 0.1, 0.01), own, range(20))
    walk(torch.optim.Adam(theirs, 0.1, weight_decay=0.01), theirs, range(20))
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(own, theirs, strict=True))


def test_a_shared_group_is_divided_by_its_mean_square() -> None:
    trained, expected = parameters(), torch.cat([p.detach().flatten() for p in parameters()])
    walk(shared(trained), trained, range(15))
    mean, square = torch.zeros_like(expected), 0.0
    for step in range(15):
        gradient = torch.cat([g.flatten() for g in gradients(step)])
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * (gradient**2).mean().item()
        corrected = mean / (1 - 0.9 ** (step + 1))
        expected -= 0.1 * corrected / ((square / (1 - 0.999 ** (step + 1))) ** 0.5 + 1e-8)
    found = torch.cat([p.detach().flatten() for p in trained])
    assert torch.allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_steps_are_proportional_to_gradients_and_free_of_their_scale(factor: float) -> None:
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.double))
    optimizer = shared([parameter])
    for _ in range(10):
        parameter.grad = factor * torch.tensor([1.0, -2.0, 4.0], dtype=torch.double)
        optimizer.step()
    assert torch.allclose(parameter / parameter[0], parameter.new_tensor([1.0, -2.0, 4.0]))
    assert parameter.square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-4)  # 10 x lr


def test_a_copy_of_its_state_goes_on_alike() -> None:
    trained = parameters()
    optimizer = shared(trained)
    walk(optimizer, trained, range(5))
    again = [nn.Parameter(p.detach().clone()) for p in trained]
    other = shared(again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    walk(optimizer, trained, range(5, 9))
    walk(other, again, range(5, 9))
    assert all(torch.equal(a, b) for a, b in zip(trained, again, strict=True))


def test_parameters_without_gradients_stay() -> None:
    trained = parameters()
    before = [p.detach().clone() for p in trained]
    optimizer = shared(trained)
    optimizer.step()
    trained[0].grad = torch.ones_like(trained[0])
    optimizer.step()
    assert not torch.equal(trained[0], before[0])
    assert torch.equal(trained[1], before[1])


def test_a_closure_is_called_first_as_lightning_has_it() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = shared([parameter])

    def closure() -> float:
        optimizer.zero_grad()
        (parameter**2).sum().backward()
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert torch.allclose(parameter, torch.full((2,), 0.9))
