"""Position embeddings of a transformer at another size of image: resampled as timm does it.

timm calls torch's bicubic interpolation with antialiasing, which ONNX has no operator for. It is
linear in the embeddings and takes rows and columns one after the other, so it is two products with
matrices that depend on the sizes alone.

Shapes: N tokens, C channels, H x W patches.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from dcsnas.spaces.backbones import Size

CUBIC = -0.5
"""Keys' parameter of the cubic kernel, which torch takes where it antialiases."""


def resample_positions(embeddings: Tensor, own: Size, wanted: Size) -> Tensor:
    """Return the embeddings [1, 1 + H * W, C] of a class token and a grid ``own`` for another."""
    if own == wanted:
        return embeddings
    token, grid = embeddings[:, :1], embeddings[:, 1:].unflatten(1, own)
    rows, columns = (
        torch.from_numpy(cubic_weights(before, after)).to(grid)
        for before, after in zip(own, wanted, strict=True)
    )
    below = (rows @ grid.flatten(2)).unflatten(2, grid.shape[2:])
    return torch.cat((token, (columns @ below).flatten(1, 2)), 1)


@cache
def cubic_weights(before: int, after: int) -> np.ndarray:
    """Return the weights [after, before] that resample ``before`` values in a row to ``after``."""
    scale = before / after
    stretch = max(scale, 1.0)  # antialiasing: a wider kernel where there will be fewer values
    centres = scale * (np.arange(after) + 0.5)
    distances = (np.arange(before) + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(distances) < 2, _cubic(np.abs(distances)), 0.0)
    return weights / weights.sum(1, keepdims=True)


def _cubic(x: np.ndarray) -> np.ndarray:
    near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)
