"""The supernet: a search space as an NNI ModelSpace whose layers share one set of weights.

For every layer with decisions there is a searchable declaration, which NNI finds in the space, and
a super-module that takes its place under a one-shot strategy. A super-module is the plain layer at
its largest size; probabilities of the options become channel masks, and one convolution runs per
layer however many options there are (FBNetV2, arXiv 2004.05565, Section 3.1).

Shapes: I, E, O options of input width, expansion, output width; M expanded channels, C channels.
"""

from collections.abc import Mapping
from typing import Any

import nni
import torch
from nni.mutable import Categorical, MutableExpression
from nni.nas.nn.pytorch import ModelSpace, ParametrizedModule
from nni.nas.oneshot.pytorch.supermodule.operation import MixedOperation
from torch import Tensor, nn

from dcsnas.nn.attention.block import AttentionBlock
from dcsnas.nn.attention.tokens import TokenSelection
from dcsnas.nn.build import build_layer, joined
from dcsnas.nn.inherit import leading_slice
from dcsnas.nn.layers import BlockMasks, ConvHead, InvertedResidual, PoolHead, Shortcut
from dcsnas.spaces.attention import attends
from dcsnas.spaces.layers import Attention, Block, Selection, round_channels
from dcsnas.spaces.layers import ConvHead as ConvHeadLayer
from dcsnas.spaces.layers import PoolHead as PoolHeadLayer
from dcsnas.spaces.space import SearchSpace, Slot


class SearchableBlock(ParametrizedModule, InvertedResidual, wraps=InvertedResidual):
    """An inverted residual whose widths and expansion may be NNI choices."""


class SearchableAttention(ParametrizedModule, AttentionBlock, wraps=AttentionBlock):
    """An attention module whose channel count and kind may be NNI choices."""


class SearchableSelection(ParametrizedModule, TokenSelection, wraps=TokenSelection):
    """A selection inside of a block whose kind may be an NNI choice."""


class SearchableConvHead(ParametrizedModule, ConvHead, wraps=ConvHead):
    """A head whose input width may be an NNI choice."""


class SearchablePoolHead(ParametrizedModule, PoolHead, wraps=PoolHead):
    """A pooling head whose input width may be an NNI choice."""


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which masks on ``x`` keep the type of the probabilities.

    The network's own under ``bf16-mixed`` would leave masks and choices' gradients 8 bits.
    """
    return torch.autocast(x.device.type, enabled=False)


class MaskedOperation(MixedOperation):
    """Base of the super-modules: largest weights, probabilities as masks, freezing by slices."""

    plain_type: type[nn.Module]
    mid_masks: Tensor
    out_masks: Tensor
    channel_masks: Tensor
    agree: Tensor

    def super_init_argument(self, name: str, value_choice: MutableExpression) -> Any:
        """Return the last option, the largest: the supernet holds the weights of all."""
        return self.options(name)[-1]

    def options(self, name: str) -> tuple[Any, ...]:
        """Return the options of argument ``name``; a constant is its only option."""
        given = self.init_arguments[name]
        return tuple(given.values) if isinstance(given, Categorical) else (given,)

    def probabilities(self, name: str, value: Any) -> Tensor:
        """Return the probabilities [options] of argument ``name``.

        ``value`` is what the sampling policy gives: our policies a tensor, NNI's differentiable
        ones a dictionary from option to probability, NNI's path sampling one option.
        """
        if isinstance(value, Tensor):
            return value
        options = self.options(name)
        if isinstance(value, Mapping):
            return torch.stack([torch.as_tensor(value[option]) for option in options])
        like = next(self.parameters())
        # filled where it lies: a copy from the host would wait for all that a GPU has still to do
        one_hot = torch.zeros(len(options), dtype=like.dtype, device=like.device)
        one_hot[options.index(value)] = 1.0
        return one_hot

    def add_masks(self, name: str, widths: Tensor) -> None:
        """Register prefix masks [..., max width] for an integer tensor of widths [...]."""
        channels = torch.arange(int(widths.max()))
        masks = (channels < widths.unsqueeze(-1)).to(torch.get_default_dtype())
        self.register_buffer(name, masks, persistent=False)

    def freeze(self, sample: Any) -> nn.Module:
        """Return the plain layer under ``sample``, with leading slices of this module's weights."""
        decided = {name: m.freeze(sample) for name, m in self.mutable_arguments.items()}
        plain = self.plain_type(**{**self.init_arguments, **decided}).to(next(self.parameters()))
        own = self.state_dict()
        state = plain.state_dict()
        plain.load_state_dict({k: leading_slice(own[k], tuple(v.shape)) for k, v in state.items()})
        return plain.train(self.training)


class MixedBlock(MaskedOperation, InvertedResidual):
    """All inverted residuals of one position."""

    bound_type = SearchableBlock
    plain_type = InvertedResidual
    argument_list = ["c_in", "expansion", "c_out"]  # noqa: RUF012 (NNI's protocol)

    def __post_init__(self) -> None:
        """Prepare the masks of the expanded and the output width."""
        wide_in, wide_out = self.options("c_in"), self.options("c_out")
        divisor = self.init_arguments["divisor"]
        expands = self.expand is not None
        mids = [
            [round_channels(e * c, divisor) if expands else c for e in self.options("expansion")]
            for c in wide_in
        ]
        self.add_masks("mid_masks", torch.tensor(mids))
        self.add_masks("out_masks", torch.tensor(wide_out))
        self.only_equal = self.init_arguments["shortcut"] == "equal"
        agree = torch.tensor([[float(i == o) for o in wide_out] for i in wide_in])
        self.register_buffer("agree", agree, persistent=False)
        if self.only_equal and self.init_arguments["stride"] == 1 and bool(agree.any()):
            self.shortcut = Shortcut()

    def forward_with_args(self, c_in: Any, expansion: Any, c_out: Any, x: Tensor) -> Tensor:
        """Run the block under the given probabilities or choices."""
        with without_autocast(x):
            p_in = self.probabilities("c_in", c_in)
            p_exp = self.probabilities("expansion", expansion)
            p_out = self.probabilities("c_out", c_out)
            mid = torch.outer(p_in, p_exp).flatten() @ self.mid_masks.flatten(0, 1)
            out = p_out @ self.out_masks
            shortcut = out * (p_in @ self.agree @ p_out) if self.only_equal else out
        return InvertedResidual.forward(self, x, BlockMasks(mid, out, shortcut))


class MixedAttention(MaskedOperation, AttentionBlock):
    """The attention modules of one position, of every kind: one runs, whatever the options.

    Kinds share all but their selectors. The probabilities of those that attend blend their queries
    and keys; that of attending at all scales the branch.
    """

    bound_type = SearchableAttention
    plain_type = AttentionBlock
    argument_list = ["channels", "kind"]  # noqa: RUF012 (NNI's protocol)

    def __post_init__(self) -> None:
        """Prepare the masks of the channel count, and the selectors of all kinds."""
        self.add_masks("channel_masks", torch.tensor(self.options("channels")))
        self.attending = [kind for kind in self.options("kind") if attends(kind)]
        shared = (self.options("channels")[-1], self.init_arguments["tau"])
        for kind in self.attending:
            self.add_selector(kind, *shared, self.init_arguments["arguments"])

    def forward_with_args(self, channels: Any, kind: Any, x: Tensor) -> Tensor:
        """Run the module under the given probabilities or choice."""
        with without_autocast(x):
            mask = self.probabilities("channels", channels) @ self.channel_masks
        if "kind" not in self.mutable_arguments:
            return AttentionBlock.forward(self, x, mask)
        p = dict(zip(self.options("kind"), self.probabilities("kind", kind), strict=True))
        some = torch.stack([p[name] for name in self.attending]).sum()
        certain = some.clamp_min(torch.finfo(some.dtype).tiny)
        shares = {name: p[name] / certain for name in self.attending}
        return AttentionBlock.forward(self, x, mask, branch_mask=mask * some, shares=shares)


class MixedSelection(MaskedOperation, TokenSelection):
    """The selections inside of one block, of every kind: what each leaves is blended."""

    bound_type = SearchableSelection
    plain_type = TokenSelection
    argument_list = ["kind"]  # noqa: RUF012 (NNI's protocol)

    def __post_init__(self) -> None:
        """Prepare the selectors of all kinds."""
        shared = (self.init_arguments["channels"], self.init_arguments["tau"])
        for kind in filter(attends, self.options("kind")):
            self.add_selector(kind, *shared, self.init_arguments["arguments"])

    def forward_with_args(self, kind: Any, x: Tensor, both: Tensor) -> Tensor:
        """Run the selections under the given probabilities or choice."""
        with without_autocast(x):
            p = self.probabilities("kind", kind)
        shares = dict(zip(self.options("kind"), p, strict=True))
        return TokenSelection.forward(self, x, both, shares)


class MixedConvHead(MaskedOperation, ConvHead):
    """The heads for every input width; channels that are not there arrive as zeros."""

    bound_type = SearchableConvHead
    plain_type = ConvHead
    argument_list = ["c_in"]  # noqa: RUF012 (NNI's protocol)

    def forward_with_args(self, c_in: Any, x: Tensor) -> Tensor:
        """Run the head; the input is masked already."""
        return ConvHead.forward(self, x)


class MixedPoolHead(MaskedOperation, PoolHead):
    """The pooling heads for every input width, whose expanded width follows it."""

    bound_type = SearchablePoolHead
    plain_type = PoolHead
    argument_list = ["c_in"]  # noqa: RUF012 (NNI's protocol)

    def __post_init__(self) -> None:
        """Prepare the masks of the expanded width."""
        expansion, divisor = self.init_arguments["expansion"], self.init_arguments["divisor"]
        mids = [round_channels(expansion * c, divisor) for c in self.options("c_in")]
        self.add_masks("mid_masks", torch.tensor(mids))

    def forward_with_args(self, c_in: Any, x: Tensor) -> Tensor:
        """Run the head under the given probabilities or choice."""
        with without_autocast(x):
            mask = self.probabilities("c_in", c_in) @ self.mid_masks
        return PoolHead.forward(self, x, mask)


SEARCHABLE = {
    Block: SearchableBlock,
    Attention: SearchableAttention,
    Selection: SearchableSelection,
    ConvHeadLayer: SearchableConvHead,
    PoolHeadLayer: SearchablePoolHead,
}
SUPER_MODULES = (MixedBlock, MixedAttention, MixedSelection, MixedConvHead, MixedPoolHead)


class Supernet(ModelSpace):
    """A search space for NNI; maps images [B, 3, H, W] to features [B, D].

    ``network`` has the names of the derived network (``dcsnas.nn.build``), so that weights pass
    from one to the other by name.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        choices = {d.label: nni.choice(d.label, list(d.options)) for d in space.decisions}
        modules = [_declare(slot, choices) for slot in space.slots]
        self.network = joined(space.any_architecture, modules)
        self.feature_dim = space.feature_dim

    def extra_oneshot_hooks(self, strategy: object) -> list[Any]:
        """Return the hooks that turn declarations into super-modules, for any NNI strategy."""
        return [super_module.mutate for super_module in SUPER_MODULES]

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature vectors [B, D]."""
        return self.network(x)


def _declare(slot: Slot, choices: Mapping[str, Any]) -> nn.Module:
    if not slot.decided:
        return build_layer(slot.build({}))
    arguments = {name: choices[decision.label] for name, decision in slot.decided.items()}
    constant = slot.layer.model_construct(**slot.constant).model_dump(exclude={"op"})
    return SEARCHABLE[slot.layer](**arguments, **constant)


def network_weights(supernet: Any) -> dict[str, Tensor]:
    """Return the supernet's weights under the names of its networks, without what chooses."""
    state = supernet.network.state_dict()
    return {name: tensor for name, tensor in state.items() if "_arch_alpha" not in name}
