"""BatchNorm of other libraries' networks, made to compute over the batch of all processes."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dcsnas.config.errors import UserError
from dcsnas.nn.distributed import BatchWide, batch_norm
from dcsnas.nn.layers import MaskedBatchNorm2d


class BatchWideNorm1d(BatchWide, nn.BatchNorm1d):
    """BatchNorm of vectors [B, C] or of sequences [B, C, L]."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input``."""
        if self.across_processes and self.training:
            return batch_norm(self, input)
        return super().forward(input)


class BatchWideNormAct2d(MaskedBatchNorm2d):
    """BatchNorm, and what timm's BatchNormAct2d does after it: drop and activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``input`` [B, C, H, W] and activate; ``mask`` [C] scales before activation."""
        return self.act(self.drop(super().forward(input, mask)))


BATCH_WIDE: dict[str, type[_BatchNorm]] = {
    "torch.nn.modules.batchnorm.BatchNorm1d": BatchWideNorm1d,
    "torch.nn.modules.batchnorm.BatchNorm2d": MaskedBatchNorm2d,
    "timm.layers.norm_act.BatchNormAct2d": BatchWideNormAct2d,
}
"""By the full name of what it takes the place of, which need not be imported for that."""


def make_batch_wide(network: nn.Module, name: str) -> None:
    """Exchange every BatchNorm of ``network`` by its batch-wide form, keeping its state.

    Raises UserError with ``name`` where there is none for one.
    """
    for module in network.modules():
        if not isinstance(module, _BatchNorm) or isinstance(module, BatchWide):
            continue
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        if kind not in BATCH_WIDE:
            raise UserError(
                f"backbone {name}: its {kind} has no form that computes over several processes; "
                f"add one to dcsnas/zoo/batch_norm.py, which knows {', '.join(BATCH_WIDE)}"
            )
        # The same fields and the same forward but for several processes. A new module would need
        # every argument of the old one, and the hooks and references that others hold to it.
        module.__class__ = BATCH_WIDE[kind]
