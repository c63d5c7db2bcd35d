"""Computing over a batch that lies on several processes as one process would.

Every process holds an equal share of the batch's images, in the order of their ranks. What couples
the images of a batch (BatchNorm, a loss that compares them) says so by inheriting ``BatchWide``;
all else works image by image and need not know.

Legend: R processes, B images of one process, C channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcsnas.config.errors import UserError


@dataclass(frozen=True)
class Process:
    """One of the processes that train together: its number, and how many there are."""

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the process that writes files."""
        return self.rank == 0


ALONE = Process()


class BatchWide:
    """Marks a module that computes over a batch: over this process's share, or over all of it."""

    across_processes: bool = False
    """Set by ``span_processes``, never by itself: one process may also work alone on something,
    such as a validation, while the others wait."""


def is_batch_wide(module: nn.Module) -> bool:
    """Return whether ``module``, or one that it consists of, computes over a batch."""
    return any(isinstance(part, BatchWide) for part in module.modules())


def span_processes(network: nn.Module, across: bool = True) -> None:
    """Make the batch-wide modules of ``network`` compute over the batch of all processes, or not.

    From then on all processes must run its training passes together.
    """
    for module in network.modules():
        if isinstance(module, BatchWide):
            module.across_processes = across
        else:
            assert not isinstance(module, _BatchNorm), f"{type(module).__name__} is not BatchWide"


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor) -> Tensor:
        ctx.rows = len(share)
        share = share.contiguous()
        shares = [torch.empty_like(share) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, share)
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


def gather(share: Tensor) -> Tensor:
    """Return the shares [B, ...] of all processes as one tensor [R * B, ...], in order of rank.

    Its gradient is the sum of those that all processes have for this one's share. So where each
    computes the same loss of the gathered batch, parameter gradients averaged over the processes,
    as DistributedDataParallel averages them, are those of one process with the whole batch.
    Raises UserError where another process has ended.
    """
    try:
        gathered = _Gather.apply(share)
    except RuntimeError as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"another process of this run cannot be reached ({reason}); its own message, above or"
            " in its log, says why"
        ) from error
    assert isinstance(gathered, Tensor)
    return gathered


def batch_norm(norm: _BatchNorm, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Normalise ``x`` [B, C, ...] as ``norm`` does in training, by the whole batch's statistics.

    ``mask`` [C] scales the result per channel. Statistics are at least float32. They are put
    together from the processes' means and variances: a mean of squares would cancel.
    """
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(values, [0, *range(2, x.dim())], correction=0)
    means, variances = gather(torch.stack([mean, variance])[None]).unbind(1)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    _track(norm, mean.detach(), variance.detach(), len(means) * x.numel() // x.shape[1])
    if mask is None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    weight, bias = (p if mask is None else p * mask for p in (norm.weight, norm.bias))
    scale = weight * torch.rsqrt(variance + norm.eps)
    shape = (1, -1, *[1] * (x.dim() - 2))
    normalised = (values - mean.view(shape)) * scale.view(shape) + bias.view(shape)
    return normalised.to(x.dtype)


def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics, the variance unbiased, as torch does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    momentum = norm.momentum or 0.0
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raises UserError without the device."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError(
            "device cuda was asked for, but torch finds no CUDA device here; use --device cpu, "
            "or install a CUDA build of torch and check nvidia-smi"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute on ``count`` CPU threads inside the block; None leaves torch's number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
