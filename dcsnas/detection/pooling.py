"""What lies in a box, from the map of the pyramid that fits its size.

torchvision's ``MultiScaleRoIAlign`` does the same with boxes that lie half a position off
(``aligned`` is False there), which is much for a box of a few positions.
Shapes: K boxes of all images, F channels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dcsnas.detection.torchvision_parts import import_torchvision

USUAL_BOX, USUAL_STRIDE = 224, 16
"""A box of so many pixels is sampled from the map of this stride, one of half from half of it.

Source: Lin et al., "Feature Pyramid Networks", CVPR 2017, Equation 1."""


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
