"""What torchreid's networks gave, recorded beforehand: weights by a rule, images, features.

``files/torchreid_networks.json`` states the rule; torchreid itself is not needed.
"""

import json
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parent / "files" / "torchreid_networks.json"


def recorded(name: str) -> dict[str, Any]:
    """Return what is recorded of a network of torchreid's."""
    return json.loads(FILE.read_text())["networks"][name]


def torchreid_state(name: str) -> dict[str, Tensor]:
    """Return the recorded network's state dict, its classifiers included, in float64."""
    return {tensor: _filled(tensor, tuple(shape)) for tensor, shape in recorded(name)["tensors"]}


def torchreid_images(name: str) -> Tensor:
    """Return the images [2, 3, H, W] that the features were recorded for, in float64."""
    draws = np.random.RandomState(7).standard_normal((2, 3, *recorded(name)["size"]))
    return torch.from_numpy(draws)


def _filled(name: str, shape: tuple[int, ...]) -> Tensor:
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif len(shape) > 1:
        values = values / np.sqrt(prod(shape[1:]))
    elif name.endswith("weight"):
        values = 1 + 0.1 * values
    else:
        values = 0.1 * values
    return torch.from_numpy(np.asarray(values))
