"""The operators that stand in for torchvision's compiled ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dcsnas.detection.torchvision_parts import nms, roi_align


def random_boxes(count: int, side: float, generator: torch.Generator, least: float = 1) -> Tensor:
    low = torch.rand(count, 2, generator=generator, dtype=torch.double) * side
    extent = torch.rand(count, 2, generator=generator, dtype=torch.double) * side / 2 + least
    return torch.cat((low, low + extent), 1)


def overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**31), st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_is_the_greedy_loop(count: int, seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(count, 30, generator).float()
    scores = torch.randint(0, 8, (count,), generator=generator).float()  # with ties
    kept: list[int] = []
    for index in sorted(range(count), key=lambda i: (-scores[i].item(), i)):
        if all(overlap(boxes[index].tolist(), boxes[k].tolist()) <= threshold for k in kept):
            kept.append(index)
    assert nms(boxes, scores, threshold).tolist() == kept


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Return torchvision's value of a map [H, W] at a point: clamped, 0 beyond a position."""
    rows, columns = plane.shape
    if not (-1 <= y <= rows and -1 <= x <= columns):
        return 0.0
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    dy, dx = y - top, x - left
    above = plane[top, left].item() * (1 - dx) + plane[top, right].item() * dx
    below = plane[bottom, left].item() * (1 - dx) + plane[bottom, right].item() * dx
    return above * (1 - dy) + below * dy


def naive_roi_align(
    maps: Tensor, rois: Tensor, cells: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Return RoIAlign by loops over boxes, cells and points (Mask R-CNN, Section 3)."""
    out = maps.new_zeros(len(rois), maps.shape[1], *cells)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (corner * scale - 0.5 * aligned for corner in corners)
        width, height = x1 - x0, y1 - y0
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        for row in range(cells[0]):
            for column in range(cells[1]):
                for channel in range(maps.shape[1]):
                    values = [
                        bilinear(
                            maps[int(image), channel],
                            y0 + (row + (i + 0.5) / ratio) * height / cells[0],
                            x0 + (column + (j + 0.5) / ratio) * width / cells[1],
                        )
                        for i in range(ratio)
                        for j in range(ratio)
                    ]
                    out[k, channel, row, column] = sum(values) / len(values)
    return out


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2])
def test_roi_align_is_the_loop_also_beyond_the_borders(aligned: bool, ratio: int) -> None:
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(3, 2, 7, 5, generator=generator, dtype=torch.double)
    boxes = random_boxes(8, 60, generator) - 12
    images = torch.tensor([2, 0, 0, 2, 0, 2, 2, 0])  # none of the second, in no order
    rois = torch.cat((images[:, None].double(), boxes), 1)
    expected = naive_roi_align(maps, rois, (3, 2), 0.125, ratio, aligned)
    found = roi_align(maps, rois, (3, 2), 0.125, ratio, aligned)
    assert (found - expected).abs().max() < 1e-12


def test_roi_align_takes_the_boxes_of_each_image() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 8, 8, generator=generator)
    boxes = random_boxes(5, 40, generator).float()
    rois = torch.cat((torch.tensor([0, 0, 1, 1, 1.0])[:, None], boxes), 1)
    listed = roi_align(maps, [boxes[:2], boxes[2:]], 4, 0.2)
    assert torch.equal(listed, roi_align(maps, rois, (4, 4), 0.2))


def test_gradients_of_roi_align() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 2, 5, 6, generator=generator, dtype=torch.double, requires_grad=True)
    boxes = random_boxes(4, 20, generator)
    rois = torch.cat((torch.tensor([1.0, 0, 1, 1])[:, None].double(), boxes), 1)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 3), 0.2), (maps,))


def test_no_boxes_give_nothing_but_a_gradient_of_zeros() -> None:
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    out = roi_align(maps, torch.zeros(0, 5), (7, 7), 0.25)
    assert out.shape == (0, 3, 7, 7)
    out.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def test_half_precision_maps_are_sampled_at_exact_points() -> None:
    # in bfloat16 the point 100.5 would be 100 or 101
    columns = torch.arange(0, 128, dtype=torch.float32) % 2
    maps = columns.expand(1, 1, 4, 128).bfloat16()
    found = roi_align(maps, torch.tensor([[0, 100.25, 1, 101.25, 2]]), (1, 1), 1.0, 1)
    assert found.dtype == torch.bfloat16
    assert math.isclose(found.item(), 0.75, abs_tol=0.01)


def test_adaptive_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling_ratio is -1; give 1 or more"):
        roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), (2, 2), 1.0, -1)


def test_inside_an_image_roi_align_equals_torchvisions() -> None:
    pytest.importorskip("torchvision", reason="detection's extra is not installed")
    import importlib

    # its body in torch operators, uncompiled; the compiled operator is absent beside a CPU torch
    module = importlib.import_module("torchvision.ops.roi_align")
    reference = module._roi_align.__wrapped__
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 5, 13, 17, generator=generator, dtype=torch.double)
    images = torch.randint(0, 2, (20, 1), generator=generator).double()
    # beyond the borders torchvision's two implementations differ; ours is the compiled one's
    rois = torch.cat((images, random_boxes(20, 65, generator).clamp(4, 100)), 1)
    for aligned in (False, True):
        expected = reference(maps, rois, 0.125, 7, 5, 2, aligned)
        assert (roi_align(maps, rois, (7, 5), 0.125, 2, aligned) - expected).abs().max() < 1e-9
