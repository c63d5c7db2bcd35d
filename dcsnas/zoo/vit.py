"""Vision transformers as backbones: attention is in their blocks, and a kind selects inside of it.

Shapes: B images, N tokens (the class token and those of patches), C channels, D features.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import FeaturePart, Size, StageEnd
from dcsnas.spaces.units import Cost, TrunkMemory
from dcsnas.zoo.counting import count
from dcsnas.zoo.memory import observe_memory
from dcsnas.zoo.module_backbone import no_draws
from dcsnas.zoo.positions import resample_positions
from dcsnas.zoo.timm_backbone import fetched
from dcsnas.zoo.torchvision_shim import import_timm

VIT_BASE = "vit_base_patch16_224"
"""timm's name of ViT-B/16 (Dosovitskiy et al., ICLR 2021)."""
PATCH, CHANNELS, BLOCKS = 16, 768, 12
REID_SIZE: Size = (256, 128)
"""Of the images that position embeddings are made for; at other sizes they are resampled."""

Select = Callable[[Tensor, Tensor], Tensor]
"""Takes tokens [B, N, C] and the queries and keys [2, B, N, C] made of them; returns the latter."""


class SelectingAttention(nn.Module):
    """A block's self-attention, with timm's names and results, and a place for a selection.

    The arguments are those that timm makes its own with. ``select`` is set by whoever puts
    something there; without it the module is the plain one.
    """

    attends = True

    def __init__(
        self, dim: int, *, num_heads: int, qkv_bias: bool, proj_drop: float, **others: Any
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self.select: Select | None = None

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Map tokens [B, N, C] to tokens."""
        heads = self._heads(x)
        attended = F.scaled_dot_product_attention(*heads, attn_mask=attn_mask, is_causal=is_causal)
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))

    def affinities(self, x: Tensor, token: int) -> Tensor:
        """Return those of one token of ``x`` [B, N, C] to all of them, [B, N]: the heads' mean."""
        query, key, _ = self._heads(x)
        products = query[:, :, token : token + 1] @ key.mT / query.shape[-1] ** 0.5
        return products.softmax(-1).mean(1)[:, 0]

    def _heads(self, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values [B, heads, N, C / heads] of tokens [B, N, C]."""
        made = self.qkv(x).unflatten(-1, (3, -1)).permute(2, 0, 1, 3)
        query, key = made[:2] if self.select is None else self.select(x, made[:2])
        return [
            t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (query, key, made[2])
        ]


def timm_vit(**options: Any) -> Any:
    """Return timm's ViT-B/16 for images of 256x128, without classifier, with our attention."""
    return import_timm().create_model(
        VIT_BASE, num_classes=0, img_size=REID_SIZE, attn_layer=SelectingAttention, **options
    )


def patch_grid(size: Size, stride: int) -> Size:
    """Return how many patches lie below and beside each other on images of ``size``."""
    height, width = ((side - PATCH) // stride + 1 for side in size)
    return height, width


class Embedding(nn.Module):
    """Base of transformers: images [B, 3, H, W] to tokens [B, N, C] with their positions.

    Takes its tensors, with their names, out of timm's network ``vit``; patches of stride
    ``stride`` may overlap.
    """

    def __init__(self, vit: Any, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.patch_embed = nn.Sequential(OrderedDict(proj=vit.patch_embed.proj))
        vit.patch_embed.proj.stride = (stride, stride)
        self.cls_token = vit.cls_token
        self.position_grid = patch_grid(REID_SIZE, stride)
        positions = vit.pos_embed.data, patch_grid(REID_SIZE, PATCH), self.position_grid
        self.pos_embed = nn.Parameter(resample_positions(*positions))

    def embedded(self, images: Tensor) -> Tensor:
        """Return the class token and the patches' tokens."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        # not len(patches), which a trace takes for a constant
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), 1)
        height, width = map(int, images.shape[2:])  # numbers, also while a trace is taken
        here = patch_grid((height, width), self.stride)
        return tokens + resample_positions(self.pos_embed, self.position_grid, here)


class VisionTransformer(Embedding):
    """ViT-B/16 with timm's names: images [B, 3, H, W] to features [B, C], the class token's."""

    def __init__(self, **options: Any) -> None:
        vit = timm_vit(**options)
        super().__init__(vit, PATCH)
        self.blocks, self.norm = vit.blocks, vit.norm

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of normalised images."""
        return self.norm(self.blocks(self.embedded(images)))[:, 0]


class TokenBackbone:
    """A transformer whose blocks' attention is where kinds stand; implements ``Backbone``.

    ``modules`` are the names of the SelectingAttentions, ``tokens`` says how many tokens an image
    of a size has at each; it raises ValueError, with the reason, for one that does not do.
    ``create`` returns the network, ``published`` fetches its authors' weights. ``feature_parts``
    are the vectors that its features consist of, one unless given.
    """

    layout: Literal["NLC"] = "NLC"

    def __init__(
        self,
        name: str,
        *,
        create: Callable[[], nn.Module],
        modules: Sequence[str],
        tokens: Callable[[Size], Sequence[int]],
        stride: int,
        feature_dim: int,
        published: Callable[[], Mapping[str, Tensor]],
        feature_parts: tuple[FeaturePart, ...] = (),
    ) -> None:
        self.name = name
        self.feature_dim = feature_dim
        self.feature_parts = feature_parts or (FeaturePart(feature_dim),)
        self.output_strides: tuple[int, ...] = (stride,)
        self.stage_ends = tuple(StageEnd(module, CHANNELS, stride) for module in modules)
        self.pretrained = published
        self._create = create
        self._tokens = tokens
        self._costs: dict[Size, Cost] = {}
        self._memories: dict[Size, TrunkMemory] = {}

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return (tokens, 1) at each block for an input of ``size``; raises UserError."""
        self._check(output_stride)
        try:
            return tuple((tokens, 1) for tokens in self._tokens(size))
        except ValueError as error:
            height, width = size
            raise UserError(
                f"backbone {self.name}: it cannot take images of {height}x{width} ({error}); set "
                "input to a size that it can take, such as 256x128"
            ) from None

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return parameters, and MACs and activations for one image of ``size``."""
        if size not in self._costs:
            self.map_sizes(output_stride, size)  # raises for a size that does not do
            with no_draws():
                self._costs[size] = count(self._create(), size)
        return self._costs[size]

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds while it runs on one image of ``size``."""
        if size not in self._memories:
            self.map_sizes(output_stride, size)  # raises for a size that does not do
            modules = [end.module for end in self.stage_ends]
            with no_draws():
                self._memories[size] = observe_memory(self._create(), modules, size, self.layout)
        return self._memories[size]

    def create(self, output_stride: int) -> nn.Module:
        """Return the network with fresh weights."""
        self._check(output_stride)
        return self._create()

    def _check(self, output_stride: int) -> None:
        (stride,) = self.output_strides
        if output_stride != stride:
            raise UserError(
                f"backbone {self.name}: output_stride {output_stride} is not {stride}, that of its "
                f"patches; set output_stride to {stride}"
            )


def backbone(name: str) -> TokenBackbone:
    """Return ViT-B/16 for images of 256x128 and other multiples of 16."""
    return TokenBackbone(
        name,
        create=VisionTransformer,
        modules=[f"blocks.{index}.attn" for index in range(BLOCKS)],
        tokens=_tokens,
        stride=PATCH,
        feature_dim=CHANNELS,
        published=lambda: fetched(name, lambda: VisionTransformer(pretrained=True)),
    )


def _tokens(size: Size) -> Sequence[int]:
    if any(side % PATCH for side in size):
        raise ValueError(f"its patches measure {PATCH}x{PATCH}, and both sides must be multiples")
    return [1 + size[0] // PATCH * (size[1] // PATCH)] * BLOCKS
