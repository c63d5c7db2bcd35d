"""Slots: the positions of a space's networks, and what there is to decide at each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.spaces.attention import attends, check_channels, check_in_block, check_width
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.layers import (
    Attention,
    Block,
    Conv,
    ConvHead,
    Layer,
    PoolHead,
    Selection,
    Trunk,
)
from dcsnas.spaces.space_file import (
    AttentionSettings,
    BackboneFile,
    BlockRow,
    ConvHeadRow,
    SpaceFile,
    SpaceSpec,
)

Option = float | str
Choice = Mapping[str, Option]


@dataclass(frozen=True)
class Decision:
    """One thing to choose: a label such as ``b03_width`` and its options, the cheapest first."""

    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Slot:
    """One position of the network: a layer type, its decided arguments and its constant ones."""

    layer: type[Conv | Block | Attention | Selection | Trunk | ConvHead | PoolHead]
    decided: Mapping[str, Decision]
    constant: Mapping[str, Any]

    def build(self, choice: Choice) -> Layer:
        """Return the layer under ``choice``, which maps labels to options."""
        decided = {name: choice[d.label] for name, d in self.decided.items()}
        return self.layer(**decided, **self.constant)

    def variants(self) -> Iterator[tuple[tuple[int, ...], Layer]]:
        """Yield the option indices (one per decided argument, in order) and the layer of each."""
        decisions = list(self.decided.values())
        for indices in product(*(range(len(d.options)) for d in decisions)):
            picked = {d.label: d.options[i] for d, i in zip(decisions, indices, strict=True)}
            yield indices, self.build(picked)


def slots_of(file: SpaceFile | BackboneFile) -> Iterator[Slot]:
    """Yield every position of the networks of ``file``; raises UserError as a backbone does."""
    return _backbone_slots(file) if isinstance(file, BackboneFile) else _row_slots(file)


def _backbone_slots(file: BackboneFile) -> Iterator[Slot]:
    backbone, stride = find_backbone(file.backbone), file.output_stride
    if stride not in backbone.output_strides:
        allowed = " or ".join(map(str, backbone.output_strides))
        raise UserError(
            f"space {file.name}: output_stride: {stride} given, {file.backbone} runs at {allowed}"
        )
    constant = {"backbone": file.backbone, "output_stride": stride}
    yield Slot(Trunk, {}, {**constant, "features": backbone.feature_dim})
    try:
        settings = file.attention_at(len(backbone.stage_ends))
    except ValueError as error:
        raise UserError(f"space {file.name}: {error}") from None
    in_blocks = backbone.layout == "NLC"
    for index, (end, one) in enumerate(zip(backbone.stage_ends, settings, strict=True)):
        if in_blocks and (foreign := one.stated & {"affinity", "scale"}):
            raise UserError(
                f"space {file.name}: attention.{min(foreign)}: the attention in the blocks of "
                f"{file.backbone} has an affinity and a scale of its own; remove the key"
            )
        layer = Selection if in_blocks else Attention
        yield _attention_slot(file, index, end.channels, one, layer)


def _attention_slot(
    file: SpaceSpec,
    index: int,
    channels: Any,
    settings: AttentionSettings,
    layer: type[Attention | Selection] = Attention,
) -> Slot:
    widths = channels.options if isinstance(channels, Decision) else (channels,)
    try:
        check_width(settings.kinds, decided=isinstance(channels, Decision))
        for one, width in product(settings.kinds, widths):
            check_channels(one, int(width), settings.arguments)
            if layer is Selection:
                check_in_block(one)
    except ValueError as error:
        where = f"space {file.name}: attention position {index}"
        raise UserError(f"{where}: {error}") from None
    kind = _decide(f"a{index}_kind", settings.kinds)
    constant = settings.model_dump(include=set(layer.model_fields) - {"kind"})
    return _slot(layer, {"channels": channels, "kind": kind, **constant})


def _row_slots(file: SpaceFile) -> Iterator[Slot]:
    shared = {"activation": file.activation}
    stem = {"c_in": 3, "c_out": file.stem.width, "kernel": file.stem.kernel}
    yield Slot(Conv, {}, {**stem, "stride": file.stem.stride, **shared})
    block_fields = {**shared, "divisor": file.divisor, "shortcut": file.shortcut}
    width: Any = file.stem.width
    index = attentions = 0
    for row_index, row in enumerate(file.rows):
        if not isinstance(row, BlockRow):
            settings = file.attention_at(file.positions)[attentions]
            if any(map(attends, settings.kinds)):
                yield _attention_slot(file, attentions, width, settings)
            attentions += 1
            continue
        halved = file.output_stride != file.natural_stride and row_index == file.last_strided_row
        for repeat in range(row.repeat):
            out = _decide(f"b{index:02d}_width", row.width)
            expansion = _decide(f"b{index:02d}_expansion", row.expansion)
            stride = 1 if repeat or halved else row.stride
            geometry = {"kernel": row.kernel, "stride": stride, **block_fields}
            yield _slot(Block, {"c_in": width, "expansion": expansion, "c_out": out, **geometry})
            width = out
            index += 1
    ends = {"c_in": width, "c_out": file.head.width, **shared}
    if isinstance(file.head, ConvHeadRow):
        yield _slot(ConvHead, ends)
    else:
        expanding = {"expansion": file.head.expansion, "divisor": file.divisor}
        yield _slot(PoolHead, {**ends, **expanding})


def _decide(label: str, options: tuple[Option, ...]) -> Any:
    """Return a decision, or the only option where there is nothing to choose."""
    return options[0] if len(options) == 1 else Decision(label, options)


def _slot(layer: type, arguments: dict[str, Any]) -> Slot:
    decided = {name: value for name, value in arguments.items() if isinstance(value, Decision)}
    constant = {name: value for name, value in arguments.items() if name not in decided}
    return Slot(layer, decided, constant)
