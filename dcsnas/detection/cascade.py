"""Cascade Mask R-CNN's heads: three box stages, each on the boxes of the one before, and a mask.

Source: Cai and Vasconcelos, "Cascade R-CNN", TPAMI 2019; the second and third stage take every box
of the one before, as in detectron2, and scores are the mean of the stages'.
Shapes: K boxes of all images, C categories and the background, which is 0; F channels.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.detection import DetectorConfig
from dcsnas.detection.torchvision_parts import PyramidPool, import_torchvision

BOX_CELLS, MASK_CELLS = 7, 14
"""Cells along a side that a box is sampled in."""
MASK_SAMPLES = 2
"""Points along a side of a cell of the masks that are learnt."""
CODER_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
SHARE_OF_THINGS = 0.25
"""Of the boxes drawn for an image, at most."""
BETA = 1 / 9
"""Where the smooth L1 loss of boxes becomes linear."""
SMALLEST = 0.01
"""Side of a detection in pixels."""

Target = Mapping[str, Tensor]
"""Of an image with N things: ``boxes`` [N, 4], ``labels`` int64 [N] from 1, ``masks`` [N, H, W]."""
Sizes = Sequence[tuple[int, int]]


class Detection(NamedTuple):
    """What was found on an image, best first."""

    boxes: Tensor
    """[N, 4], (x1, y1, x2, y2) in pixels of the input."""
    scores: Tensor
    labels: Tensor
    """int64 [N], from 1."""
    masks: Tensor
    """[N, 1, 28, 28], probabilities within each box."""


class Drawn(NamedTuple):
    """The boxes of one image that a stage learns from."""

    boxes: Tensor
    matched: Tensor
    """int64 [K]: index of the thing that each overlaps most."""
    labels: Tensor
    """int64 [K]: its category, 0 where the overlap is too small."""
    goals: Tensor
    """[K, 4]: the thing's own box."""


def group_norm(channels: int) -> nn.Module:
    """Return a normalisation that does not depend on the batch, of at most 32 groups."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


class BoxStage(nn.Module):
    """From what lies in a box [K, F, 7, 7] to its category and how to move it, for all categories.

    Gives logits [K, C] and moves [K, 4], in float32 also under autocast.
    """

    def __init__(self, config: DetectorConfig, num_classes: int) -> None:
        super().__init__()
        faster_rcnn = import_torchvision().models.detection.faster_rcnn
        channels, features = config.channels, config.box_features
        linear = [features] * (1 if config.box_convolutions else 2)
        size, convolutions = (channels, BOX_CELLS, BOX_CELLS), [channels] * config.box_convolutions
        self.head = faster_rcnn.FastRCNNConvFCHead(size, convolutions, linear, group_norm)
        self.category = nn.Linear(features, num_classes)
        self.move = nn.Linear(features, 4)
        nn.init.normal_(self.category.weight, std=0.01)
        nn.init.normal_(self.move.weight, std=0.001)
        for layer in (self.category, self.move):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and moves."""
        x = self.head(x)
        return self.category(x).float(), self.move(x).float()


class CascadeHeads(nn.Module):
    """The heads on a pyramid's maps of ``strides``; ``num_classes`` counts the background."""

    def __init__(self, config: DetectorConfig, num_classes: int, strides: Sequence[int]) -> None:
        super().__init__()
        models = import_torchvision().models.detection
        self.config = config
        self.stages = nn.ModuleList(BoxStage(config, num_classes) for _ in CODER_WEIGHTS)
        self.box_pool = PyramidPool(strides, BOX_CELLS, config.samples)
        self.mask_pool = PyramidPool(strides, MASK_CELLS, config.samples)
        width, mask_rcnn = config.mask_channels, models.mask_rcnn
        layers = [width] * config.mask_convolutions
        self.mask_head = mask_rcnn.MaskRCNNHeads(config.channels, layers, 1, group_norm)
        self.mask_predictor = mask_rcnn.MaskRCNNPredictor(width, width, num_classes)
        self.coders = [models._utils.BoxCoder(weights) for weights in CODER_WEIGHTS]
        matcher = partial(models._utils.Matcher, allow_low_quality_matches=False)
        self.matchers = [matcher(iou, iou) for iou in config.ious]
        self.sampler = models._utils.BalancedPositiveNegativeSampler(
            config.boxes_per_image, SHARE_OF_THINGS
        )

    def losses(
        self, maps: Mapping[str, Tensor], proposals: list[Tensor], sizes: Sizes, targets: list[Any]
    ) -> dict[str, Tensor]:
        """Return the weighted losses of each stage and of the mask."""
        losses: dict[str, Tensor] = {}
        drawn: list[Drawn] = []
        boxes = proposals
        for index, weight in enumerate(self.config.loss_weights):
            drawn = self._drawn(index, boxes, targets)
            boxes = [one.boxes for one in drawn]
            logits, moves = self.stages[index](self.box_pool(maps, boxes))
            category, box = self._box_losses(index, logits, moves, drawn)
            losses |= {f"category_{index}": weight * category, f"box_{index}": weight * box}
            boxes = self._moved(index, moves, boxes, sizes)
        losses["mask"] = self._mask_loss(maps, drawn, targets)
        return losses

    def detect(
        self, maps: Mapping[str, Tensor], proposals: list[Tensor], sizes: Sizes
    ) -> list[Detection]:
        """Return what is found on each image."""
        boxes, total = proposals, torch.zeros(())
        for index, stage in enumerate(self.stages):
            logits, moves = stage(self.box_pool(maps, boxes))
            total = total + logits.softmax(1)
            boxes = self._moved(index, moves, boxes, sizes)
        scores = (total / len(self.stages)).split([len(own) for own in boxes])
        found = [self._best(*pair) for pair in zip(boxes, scores, strict=True)]
        masks = self._masks(maps, [boxes for boxes, *_ in found]).sigmoid()
        labels = torch.cat([label for *_, label in found])
        own = masks[torch.arange(len(labels), device=labels.device), labels][:, None]
        each = own.split([len(label) for *_, label in found])
        return [Detection(*one, mask) for one, mask in zip(found, each, strict=True)]

    def _best(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels of an image's detections, by boxes and scores [K, C]."""
        ops = import_torchvision().ops
        which, label = (scores[:, 1:] > self.config.least_score).nonzero(as_tuple=True)
        boxes, scores, label = boxes[which], scores[which, label + 1], label + 1
        large = ops.remove_small_boxes(boxes, SMALLEST)
        boxes, scores, label = boxes[large], scores[large], label[large]
        kept = ops.batched_nms(boxes, scores, label, self.config.suppression)
        kept = kept[: self.config.detections]
        return boxes[kept], scores[kept], label[kept]

    def _drawn(self, index: int, boxes: list[Tensor], targets: list[Any]) -> list[Drawn]:
        """Return what each image's boxes learn at a stage; the first draws from them by chance."""
        first = index == 0
        if first:
            boxes = [torch.cat([b, t["boxes"]]) for b, t in zip(boxes, targets, strict=True)]
        found = [self._matched(index, b, t) for b, t in zip(boxes, targets, strict=True)]
        if not first:
            return found
        things, others = self.sampler([one.labels for one in found])
        keep = [(a | b).bool() for a, b in zip(things, others, strict=True)]
        return [Drawn(*(part[k] for part in one)) for one, k in zip(found, keep, strict=True)]

    def _matched(self, index: int, boxes: Tensor, target: Target) -> Drawn:
        things, count = target["boxes"], len(boxes)
        none = torch.zeros(count, dtype=torch.int64, device=boxes.device)
        if not len(things):
            return Drawn(boxes, none, none, boxes)
        overlaps = import_torchvision().ops.box_iou(things, boxes)
        matches = self.matchers[index](overlaps)
        matched = matches.clamp(min=0)
        labels = torch.where(matches >= 0, target["labels"][matched], none)
        return Drawn(boxes, matched, labels, things[matched])

    def _box_losses(
        self, index: int, logits: Tensor, moves: Tensor, drawn: list[Drawn]
    ) -> tuple[Tensor, Tensor]:
        labels = torch.cat([one.labels for one in drawn])
        things = labels > 0
        boxes, goals = (torch.cat([one[k] for one in drawn])[things] for k in (0, 3))
        wanted = self.coders[index].encode_single(goals, boxes)
        box = F.smooth_l1_loss(moves[things], wanted, beta=BETA, reduction="sum")
        return F.cross_entropy(logits, labels), box / max(1, len(labels))

    @torch.no_grad()
    def _moved(self, index: int, moves: Tensor, boxes: list[Tensor], sizes: Sizes) -> list[Tensor]:
        """Return the boxes after a stage, cut at their image's borders and never empty."""
        clip = import_torchvision().ops.clip_boxes_to_image
        moved = self.coders[index].decode_single(moves, torch.cat(boxes))
        each = moved.split([len(own) for own in boxes])
        cut = [clip(own, size) for own, size in zip(each, sizes, strict=True)]
        # encoding takes the logarithm of sides
        return [torch.cat([b[:, :2], b[:, 2:].max(b[:, :2] + 1e-3)], 1) for b in cut]

    def _masks(self, maps: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Return logits [K, C, 28, 28]."""
        return self.mask_predictor(self.mask_head(self.mask_pool(maps, boxes))).float()

    def _mask_loss(
        self, maps: Mapping[str, Tensor], drawn: list[Drawn], targets: list[Any]
    ) -> Tensor:
        """Return the cross-entropy of the masks in the boxes that are things."""
        align = import_torchvision().ops.roi_align
        things = [one.labels > 0 for one in drawn]
        boxes = [one.boxes[which] for one, which in zip(drawn, things, strict=True)]
        labels = torch.cat([one.labels[which] for one, which in zip(drawn, things, strict=True)])
        logits = self._masks(maps, boxes)
        if not len(labels):
            return 0 * logits.sum()
        wanted, side = [], logits.shape[-1]
        for one, own, which, target in zip(drawn, boxes, things, targets, strict=True):
            if not len(own):
                continue
            rois = torch.cat([one.matched[which, None].to(own), own], 1)
            masks = target["masks"][:, None].to(own)
            wanted.append(align(masks, rois, (side, side), 1.0, MASK_SAMPLES, True)[:, 0])
        rows = torch.arange(len(labels), device=labels.device)
        return F.binary_cross_entropy_with_logits(logits[rows, labels], torch.cat(wanted))
