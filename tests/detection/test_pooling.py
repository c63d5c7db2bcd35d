"""Boxes are sampled from the map that fits their size."""

import math

import pytest
import torch

from dcsnas.detection.torchvision_parts import PyramidPool, roi_align
from detection_setup import needs_torchvision

STRIDES = (4, 8, 16, 32)


@pytest.mark.parametrize("side", [5, 30, 111, 112, 223, 224, 300, 448, 2000])
def test_the_map_is_that_of_the_pyramids_paper(side: float) -> None:
    level = math.floor(4 + math.log2(side / 224))  # Equation 1 of FPN; P2 has stride 4
    expected = min(max(level - 2, 0), 3)
    boxes = torch.tensor([[3.0, 7, 3 + side, 7 + side], [0.0, 0, 2 * side, side / 2]])
    assert PyramidPool(STRIDES, 7, 2).places(boxes).tolist() == [expected] * 2


def test_boxes_of_all_images_keep_their_order() -> None:
    needs_torchvision()
    maps = {str(i): torch.randn(2, 3, 256 // s, 256 // s) for i, s in enumerate(STRIDES)}
    boxes = [
        torch.tensor([[0.0, 0, 240, 250], [10, 20, 40, 50]]),
        torch.tensor([[5.0, 5, 130, 140]]),
    ]
    found = PyramidPool(STRIDES, 7, 2)(maps, boxes)
    rois = [[0.0, 0, 0, 240, 250], [0, 10, 20, 40, 50], [1, 5, 5, 130, 140]]
    for one, roi, level in zip(found, rois, (2, 0, 1), strict=True):
        single = roi_align(maps[str(level)], torch.tensor([roi]), 7, 1 / STRIDES[level], 2, True)
        assert torch.allclose(one, single[0], atol=1e-6)
    assert PyramidPool(STRIDES, 7, 2)(maps, [torch.zeros(0, 4)] * 2).shape == (0, 3, 7, 7)
