"""An attention kind from outside of the package: the channels that are strongest in the image.

Use it: dcsnas --plugin attention sample tiny --attention strongest --out network.yaml
"""

from pydantic import Field
from torch import Tensor

from dcsnas.config.strict import Strict
from dcsnas.nn.attention.selectors import Selector, register_attention
from dcsnas.spaces.attention import AttentionKind
from dcsnas.spaces.units import Cost


class StrongestArguments(Strict):
    """What a space file may say under ``attention.arguments.strongest``."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Of the channels, how many take part in the affinity."""


class StrongestChannels(Selector):
    """Makes queries and keys of the channels with the largest mean square over all tokens."""

    def __init__(self, channels: int, *, tau: float, share: float) -> None:
        super().__init__(channels)
        self.count = max(1, round(share * channels))

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor | None = None, *, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys with all other channels set to zero."""
        strength = x.square().mean((2, 3))[:, None]  # B, 1, C
        weakest = strength.topk(self.count, dim=-1).values[..., -1:]
        mask = (strength >= weakest).to(query.dtype)
        selected = query * mask
        return selected, selected if key is None else key * mask


def no_cost(channels: int, tokens: int, arguments: StrongestArguments) -> Cost:
    """Return what selecting adds to the block in weights and products: nothing."""
    return Cost()


register_attention(
    AttentionKind("strongest", arguments=StrongestArguments, selection_cost=no_cost),
    StrongestChannels,
)
