"""Sets of images that are decoded on access: files, or what a caller has.

Legend: H height, W width.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dcsnas.config.errors import UserError
from dcsnas.config.images import AugmentConfig, DataConfig, RandAugmentConfig, RandomCropConfig
from dcsnas.data.decoding import cut_part, decode_for, decode_rgb, resize_part
from dcsnas.data.geometry import Box, Size, center_box, random_box, whole
from dcsnas.data.held import HeldImages
from dcsnas.data.randaugment import randaugment
from dcsnas.data.sets.scan import Sample

# one decoded image: uint8 [3,H,W], its label, camera and index in the set
Item = tuple[Tensor, int, int, int]


@dataclass(frozen=True)
class Draws:
    """What is drawn for an image each time it is decoded, a function of seed, draw and image."""

    crop: RandomCropConfig | None
    randaugment: RandAugmentConfig | None
    seed: int

    def generator(self, draw: int, index: int) -> np.random.Generator:
        """Return where the draws of an image come from; those of another ``draw`` are others."""
        return np.random.default_rng((self.seed, draw, index))


class ImageSet(Dataset[Item]):
    """Samples decoded on access, as RGB of ``size`` = (height, width) pixels.

    Args:
        samples: The files, and what they show.
        size: (height, width).
        crop: Share that a centre crop keeps; None squashes the whole picture to ``size``.
        draws: What is drawn anew each time. An item's key is then index + draw * length.

    """

    of_cameras = True
    """Whether it is known which camera took an image."""

    def __init__(
        self,
        samples: Sequence[Sample],
        size: Size,
        *,
        crop: float | None = None,
        draws: Draws | None = None,
    ) -> None:
        # arrays, because worker processes would copy a list of Python objects page by page
        self._paths = np.array([os.fsencode(sample.path) for sample in samples])
        self.labels = torch.tensor([sample.identity for sample in samples], dtype=torch.int64)
        self.cameras = torch.tensor([sample.camera for sample in samples], dtype=torch.int64)
        self.size = size
        self.crop = crop
        self.draws = draws
        self._held: HeldImages | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return Path(os.fsdecode(self._paths[index]))

    def hold(self) -> "ImageSet":
        """Decode all images into memory, whole where parts of them are drawn; return the set.

        Raises UserError where an image cannot be decoded, or there is no room for them.
        """
        parts_are_drawn = self.draws is not None and self.draws.crop is not None
        load = self._whole if parts_are_drawn else self._evaluated
        self._held = HeldImages.decoded(len(self), load, self.path(0).parent.parent)
        return self

    def of(self, samples: Sequence[Sample]) -> "ImageSet":
        """Return those of this set's images that ``samples`` name, held where this one is held.

        Raises KeyError where one is not in it.
        """
        place = {path: index for index, path in enumerate(self._paths.tolist())}
        indices = [place[os.fsencode(sample.path)] for sample in samples]
        part = ImageSet(samples, self.size, crop=self.crop, draws=self.draws)
        part._held = self._held.at(indices) if self._held else None
        return part

    def pixels(self, index: int, draw: int = 0) -> Tensor:
        """Return an image, uint8 [3,H,W] of the set's size; raises ImageError where there is none.

        ``draw`` is the number of the draw.
        """
        if self.draws is None:
            return _tensor(self._held[index] if self._held else self._evaluated(index))
        rng, operations = self.draws.generator(draw, index), self.draws.randaugment
        if self.draws.crop is not None:
            pixels = self._cut(index, partial(random_box, config=self.draws.crop, rng=rng))
        else:
            pixels = _tensor(self._held[index] if self._held else self._evaluated(index))
        if operations is None:
            return pixels
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        return _tensor(randaugment(picture, operations, rng))

    def _cut(self, index: int, drawn: Callable[..., Box]) -> Tensor:
        """Return the part of an image that ``drawn`` says, of its size and the set's."""
        if self._held:
            picture = self._held[index]
            box = drawn((picture.height, picture.width), size=self.size)
        else:
            box_of = partial(drawn, size=self.size)
            picture, box = decode_for(self.path(index), self.size, box_of, detail=1)
        return cut_part(picture, self.size, box)

    def _whole(self, index: int) -> Image.Image:
        return decode_rgb(self.path(index))

    def _evaluated(self, index: int) -> Image.Image:
        """Return an image as evaluation sees it."""
        return decode_rgb(self.path(index), self.size, self._evaluated_box)

    def _evaluated_box(self, picture: Size) -> Box:
        return whole(picture) if self.crop is None else center_box(picture, self.size, self.crop)

    def __getitem__(self, key: int) -> Item:
        draw, index = divmod(key, len(self))
        image = self.pixels(index, draw)
        return image, int(self.labels[index]), int(self.cameras[index]), index


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def training_images(
    samples: Sequence[Sample], size: Size, data: DataConfig, augment: AugmentConfig, *, seed: int
) -> ImageSet:
    """Return images for training: parts of them are drawn and changed as ``augment`` says."""
    drawn = augment.crop is not None or augment.randaugment is not None
    draws = Draws(augment.crop, augment.randaugment, seed) if drawn else None
    images = ImageSet(samples, size, crop=data.crop, draws=draws)
    return images.hold() if data.in_memory else images


Given = Path | str | np.ndarray | Tensor
"""An image: a file, or RGB of any size as an array uint8 [H,W,3] or a tensor uint8 [3,H,W]."""


class GivenImages(ImageSet):
    """Images of nobody known, as a caller has them; raises UserError for what is no image."""

    of_cameras = False

    def __init__(self, images: Sequence[Given], size: Size, *, crop: float | None = None) -> None:
        files = [
            Path(one) if isinstance(one, Path | str) else Path(f"image {index}")
            for index, one in enumerate(images)
        ]
        super().__init__([Sample(file, identity=0, camera=0) for file in files], size, crop=crop)
        self._arrays = {
            index: _array(one, files[index])
            for index, one in enumerate(images)
            if not isinstance(one, Path | str)
        }

    def _evaluated(self, index: int) -> Image.Image:
        """Return an image of the set's size, scaled as those of files are."""
        if index not in self._arrays:
            return super()._evaluated(index)
        picture = Image.fromarray(self._arrays[index])
        box = self._evaluated_box((picture.height, picture.width))
        return resize_part(picture, self.size, box)


def _array(image: np.ndarray | Tensor, name: Path) -> np.ndarray:
    """Return an image in memory as uint8 [H,W,3]."""
    is_tensor = isinstance(image, Tensor)
    array = image.permute(1, 2, 0).cpu().numpy() if is_tensor and image.ndim == 3 else image
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        given = f"{type(image).__name__} {image.dtype} {tuple(image.shape)}"
        raise UserError(
            f"{name}: {given}: expected RGB from 0 to 255 as uint8, an array [H, W, 3] or a tensor "
            "[3, H, W], not normalised; convert it"
        )
    return np.ascontiguousarray(array)
