"""Untrained networks on disk, whose every number differs from its default, and pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork, head_for
from dcsnas.nn.weights import WeightsHeader, save_weights
from dcsnas.spaces.architecture import ArchitectureFile, Provenance, describe
from dcsnas.spaces.layers import Size
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.space import SearchSpace

MEAN, STD = (0.3, 0.45, 0.6), (0.2, 0.25, 0.3)


class Networks:
    """Writes weights files of networks with trained-like BatchNorms."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(
        self,
        name: str,
        space: SearchSpace,
        *,
        smallest: bool = False,
        size: Size | None = None,
        stage: str = "retrain",
        seed: int = 0,
    ) -> Path:
        """Write a network of ``space`` and return the path."""
        choice = (smallest_choice if smallest else largest_choice)(space)
        origin = Provenance(space="x", space_digest=space.digest, choice=choice, seed=0)
        file = describe(space.architecture(choice), size or space.size, origin)
        header = WeightsHeader.model_validate(
            {
                "stage": stage,
                "architecture": file,
                "space_digest": space.digest,
                "num_classes": 5,
                "input": file.input,
                "mean": MEAN,
                "std": STD,
            }
        )
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        save_weights(path, trained_like(file, seed).state_dict(), header)
        return path


def trained_like(file: ArchitectureFile, seed: int) -> TaskNetwork:
    """Return a network whose BatchNorms hold statistics of images and have any scale and shift."""
    generator = torch.Generator().manual_seed(seed)
    backbone = build(file.network, generator)
    network = TaskNetwork(backbone, head_for(backbone.feature_parts, BNNeck, 5))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.momentum = 1.0
            torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            torch.nn.init.normal_(module.bias, std=0.2, generator=generator)
    with torch.no_grad():
        network(torch.randn(8, 3, *file.input, generator=generator))
    return network


def write_pictures(folder: Path) -> list[Path]:
    """Write large and small pictures of several kinds."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((300, 500), Image.Resampling.BICUBIC)
    pictures = {
        "large.jpg": scene,
        "small.jpg": scene.resize((20, 40)),
        "other.jpg": Image.fromarray(255 - np.asarray(scene)),
        "palette.png": scene.convert("P"),
        "grey.png": scene.convert("L"),
        "alpha.png": scene.convert("RGBA"),
        "deep.png": Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257),
        "print.jpg": scene.convert("CMYK"),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    return [folder / name for name in pictures]


def pixels_of(files: list[Path], size: tuple[int, int]) -> np.ndarray:
    """Return images [N, 3, H, W], uint8."""
    from PIL import Image

    height, width = size
    pictures = [Image.open(f).resize((width, height), Image.Resampling.BILINEAR) for f in files]
    return np.stack([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2)
