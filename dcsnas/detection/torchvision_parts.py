"""torchvision's parts of a detector, with our operators where its compiled ones do not load.

Beside a CPU build of torch PyPI's torchvision has its Python part alone; ours compute the same.
``PyramidPool`` does what its ``MultiScaleRoIAlign`` does, which has boxes lie half a position off
(``aligned`` is False there), and that is much for a box of a few positions.
Shapes: B images, C channels, H x W positions, K boxes; boxes are (x1, y1, x2, y2) in pixels.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.config.errors import UserError

USUAL_BOX, USUAL_STRIDE = 224, 16
"""A box of so many pixels is sampled from the map of this stride, one of half from half of it.

Source: Lin et al., "Feature Pyramid Networks", CVPR 2017, Equation 1."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return which boxes [K, 4] to keep, best score first: greedy non-maximum suppression.

    A box goes where a better one that stays overlaps it by more than ``iou_threshold``.
    """
    order = scores.argsort(descending=True, stable=True)
    corners = boxes[order].detach().float().cpu().numpy()
    low, high = corners[:, :2], corners[:, 2:]
    areas = (high - low).prod(1)
    left, kept = np.arange(len(corners)), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        shared = sides.clip(min=0).prod(1)
        left = left[shared <= iou_threshold * (areas[best] + areas[left] - shared)]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Tensor:
    """Return what lies in each of K boxes on maps [B, C, H, W], as [K, C, h, w].

    Each value is the mean of ``sampling_ratio`` squared points in its cell, between positions of
    the map; points more than one position outside of it count 0. It is torchvision's operator of
    the same arguments, whose adaptive sampling (0 or less) is refused here by a ValueError.

    Source: He et al., "Mask R-CNN", ICCV 2017, Section 3.

    Args:
        input: The maps.
        boxes: [K, 5] with the index of an image before each box, or the boxes of each image.
        output_size: (h, w), or the side of a square.
        spatial_scale: Positions of the map per pixel of a box.
        sampling_ratio: Points along each side of a cell.
        aligned: Whether boxes are moved by half a position.

    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; give 1 or more")
    rois = boxes if isinstance(boxes, Tensor) else _with_images(boxes)
    height, width = (output_size, output_size) if isinstance(output_size, int) else output_size
    maps = input if input.dtype == torch.float64 else input.float()
    rois = rois.to(maps.dtype)
    x, y = _points(rois, (height, width), spatial_scale, sampling_ratio, aligned)
    rows, columns = input.shape[-2:]
    across, down = _unit(x, columns)[:, None, :], _unit(y, rows)[:, :, None]
    grid = torch.stack(torch.broadcast_tensors(across, down), -1)
    inside_x, inside_y = (x >= -1) & (x <= columns), (y >= -1) & (y <= rows)
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    return _sample(maps, grid, inside, rois[:, 0].long(), sampling_ratio).to(input.dtype)


def _with_images(boxes: list[Tensor]) -> Tensor:
    each = [torch.full_like(own[:, :1], index) for index, own in enumerate(boxes)]
    return torch.cat([torch.cat(each), torch.cat(boxes)], 1)


def _points(
    rois: Tensor, cells: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Return the points' columns [K, w * ratio] and rows [K, h * ratio], in positions."""
    low, high = rois[:, 1:3] * scale - 0.5 * aligned, rois[:, 3:5] * scale - 0.5 * aligned
    span = high - low if aligned else (high - low).clamp(min=1)

    def along(axis: int, number: int) -> Tensor:
        steps = torch.arange(number, device=rois.device, dtype=rois.dtype) + 0.5
        return low[:, axis, None] + span[:, axis, None] * steps / number

    return along(0, cells[1] * ratio), along(1, cells[0] * ratio)


def _unit(points: Tensor, positions: int) -> Tensor:
    """Return points as grid_sample counts them: -1 the first position, 1 the last."""
    return points.clamp(0, positions - 1) * (2 / max(positions - 1, 1)) - 1


def _sample(maps: Tensor, grid: Tensor, inside: Tensor, images: Tensor, ratio: int) -> Tensor:
    """Return means of ``ratio`` squared points of ``maps`` [B, C, H, W], as [K, C, h, w].

    The points are ``grid`` [K, h * ratio, w * ratio, 2] of ``images`` [K]; those not ``inside``
    count 0. One call samples all: each image gets as many places as the one with the most boxes.
    """
    (batch, channels), (count, rows, columns) = maps.shape[:2], grid.shape[:3]
    if not count:
        return maps.new_zeros(0, channels, rows // ratio, columns // ratio) + 0 * maps.sum()
    of_image = images.bincount(minlength=batch)
    starts, most = of_image.cumsum(0) - of_image, int(of_image.max())
    order = images.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(count, device=order.device) - starts[images[order]]
    place += images * most

    def placed(each: Tensor) -> Tensor:
        out = each.new_zeros(batch * most, *each.shape[1:])
        return out.index_copy(0, place, each).reshape(batch, most * rows, *each.shape[2:])

    found = F.grid_sample(maps, placed(grid), padding_mode="border", align_corners=True)
    if not inside.all():
        found = found * placed(inside)[:, None]
    if ratio > 1:
        found = F.avg_pool2d(found, ratio)
    each = found.reshape(batch, channels, most, rows // ratio, columns // ratio).transpose(1, 2)
    return each.flatten(0, 1).index_select(0, place)


INSTALL = "pip install --no-deps torchvision==0.28.0 && pip install pycocotools"
"""Without dependencies: torchvision may put a CUDA build of torch in the place of another."""

PATCHED = {
    "torchvision.ops": ("nms", "roi_align"),
    "torchvision.ops.boxes": ("nms",),
}
"""Where torchvision's own parts look the operators up."""


@cache
def import_torchvision() -> Any:
    """Return torchvision with its detection models; raises UserError where it is not there.

    Where its compiled operators are missing, ours stand in for the two that detection needs.
    """
    try:
        torchvision = importlib.import_module("torchvision")
        importlib.import_module("torchvision.models.detection")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"detection needs torchvision, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
    if not importlib.import_module("torchvision.extension")._has_ops():
        own = {"nms": nms, "roi_align": roi_align}
        for name, operators in PATCHED.items():
            module = importlib.import_module(name)
            for operator in operators:
                setattr(module, operator, own[operator])
    return torchvision


@cache
def import_pycocotools() -> tuple[Any, Any, Any]:
    """Return pycocotools' modules coco, cocoeval and mask; raises UserError without them."""
    try:
        names = ("coco", "cocoeval", "mask")
        modules = [importlib.import_module(f"pycocotools.{name}") for name in names]
    except ImportError as error:
        raise UserError(
            f"detection needs pycocotools, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
    coco, cocoeval, mask = modules
    return coco, cocoeval, mask


class PyramidPool(nn.Module):
    """Samples boxes from maps of ``strides``, each half as large as the one before."""

    def __init__(self, strides: Sequence[int], cells: int, samples: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.cells = cells
        self.samples = samples

    def forward(self, maps: Mapping[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Return [K, F, cells, cells] for the boxes of each image."""
        align = import_torchvision().ops.roi_align
        images = [torch.full_like(own[:, :1], index) for index, own in enumerate(boxes)]
        rois = torch.cat([torch.cat(images), torch.cat(boxes)], 1)
        places = self.places(rois[:, 1:])
        levels = [maps[str(index)] for index in range(len(self.strides))]
        found = levels[0].new_zeros(len(rois), levels[0].shape[1], self.cells, self.cells)
        for index, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            own = (places == index).nonzero()[:, 0]
            size = (self.cells, self.cells)
            sampled = align(level, rois[own], size, 1 / stride, self.samples, True)
            found = found.index_copy(0, own, sampled)
        return found

    def places(self, boxes: Tensor) -> Tensor:
        """Return which map [K] each box [K, 4] is sampled from."""
        sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(1).sqrt()
        wanted = torch.log2(USUAL_STRIDE * sides / USUAL_BOX / self.strides[0] + 1e-6)
        return wanted.floor().long().clamp(0, len(self.strides) - 1)
