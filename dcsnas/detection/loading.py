"""From a detection set to batches: scaled, mirrored, with the boxes and masks that go along.

Legend: B images, N things of all of them, H height, W width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler

from dcsnas.config.detection import DetectAugmentConfig, DetectConfig, DetectDataConfig
from dcsnas.config.errors import UserError
from dcsnas.data.decoding import decode_rgb
from dcsnas.data.loading import Loader
from dcsnas.data.samplers import EpochShuffle, equal_share
from dcsnas.data.workers import AHEAD, begin_worker
from dcsnas.detection.coco import CocoSet, Picture, Thing
from dcsnas.detection.detector import DIVISOR
from dcsnas.detection.torchvision_parts import import_pycocotools
from dcsnas.nn.distributed import ALONE, Process

Size = tuple[int, int]


class DetectionItem(NamedTuple):
    """One image uint8 [3,H,W], and of its things boxes [N,4], labels [N] and masks uint8 [N,H,W].

    ``number`` is its place in the set.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    number: int


class DetectionBatch(NamedTuple):
    """Images uint8 [B,3,H,W], each at the upper left, and the things on them.

    ``owners`` int64 [N] says which image of the batch a thing is on; ``sizes`` [B,2] are heights
    and widths, ``indices`` [B] places in the set.
    """

    images: Tensor
    sizes: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    owners: Tensor
    indices: Tensor

    def targets(self) -> list[dict[str, Tensor]]:
        """Return what is on each image, as the detector takes it."""
        found = []
        for index in range(len(self.images)):
            own = self.owners == index
            parts = {"boxes": self.boxes, "labels": self.labels, "masks": self.masks}
            found.append({name: part[own] for name, part in parts.items()})
        return found

    def image_sizes(self) -> list[Size]:
        """Return (height, width) of each image."""
        return [(int(height), int(width)) for height, width in self.sizes.tolist()]


class DetectionSet(Dataset[DetectionItem]):
    """The pictures of a set, loaded on access; ``augment`` changes them as its draws say.

    An item's key is its index + the number of the draw * length.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        data: DetectDataConfig,
        augment: DetectAugmentConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.pictures, self.data, self.augment, self.seed = pictures, data, augment, seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int) -> DetectionItem:
        draw, index = divmod(key, len(self))
        picture, changes = self.pictures[index], self.augment
        rng = np.random.default_rng((self.seed, draw, index))
        factor = rng.uniform(*changes.scale) if changes else 1.0
        size = scaled_size(picture.size, self.data.sides, factor)
        image = self._decoded(index).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        things = [thing for thing in picture.things if not thing.crowd] if changes else []
        boxes, masks = _boxes(things, picture.size, size), _masks(things, picture.size, size)
        if changes and changes.brightness:
            for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast):
                image = kind(image).enhance(1 + rng.uniform(-1, 1) * changes.brightness)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if changes and rng.random() < changes.flip:
            pixels, masks = pixels.flip(2), masks.flip(2)
            left, top, right, bottom = boxes.unbind(1)
            boxes = torch.stack((size[1] - right, top, size[1] - left, bottom), 1)
        labels = torch.tensor([thing.label for thing in things], dtype=torch.int64)
        return DetectionItem(pixels.contiguous(), boxes, labels, masks.contiguous(), index)

    def _decoded(self, index: int) -> Image.Image:
        """Return an image as RGB; raises UserError where it is not of the size that is stated."""
        picture = self.pictures[index]
        image = decode_rgb(picture.path)
        if (image.height, image.width) != picture.size:
            height, width = picture.size
            raise UserError(
                f"{picture.path}: is {image.width}x{image.height}, its annotations are of an image "
                f"of {width}x{height}; give the file that they are of"
            )
        return image


def scaled_size(size: Size, sides: tuple[int, int], factor: float = 1.0) -> Size:
    """Return the (height, width) of an image scaled to ``sides``, the shorter and longest one."""
    shorter, longest = (factor * side for side in sides)
    scale = min(shorter / min(size), longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _boxes(things: Sequence[Thing], size: Size, scaled: Size) -> Tensor:
    down, across = scaled[0] / size[0], scaled[1] / size[1]
    boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4)
    return boxes * torch.tensor([across, down, across, down])


def _masks(things: Sequence[Thing], size: Size, scaled: Size) -> Tensor:
    """Return masks uint8 [N, H, W] at the scaled size."""
    masks = [_mask(thing.segmentation, size, scaled) for thing in things]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *scaled).byte()


def _mask(segmentation: Any, size: Size, scaled: Size) -> np.ndarray:
    mask_tools = import_pycocotools()[2]
    if isinstance(segmentation, list):
        factors = np.array([scaled[1] / size[1], scaled[0] / size[0]])
        polygons = [(np.reshape(part, (-1, 2)) * factors).ravel().tolist() for part in segmentation]
        return mask_tools.decode(mask_tools.merge(mask_tools.frPyObjects(polygons, *scaled)))
    if isinstance(segmentation["counts"], list):
        segmentation = mask_tools.frPyObjects(segmentation, *size)
    whole = mask_tools.decode(segmentation)
    if size == scaled:
        return whole
    grey = Image.fromarray(255 * whole).resize((scaled[1], scaled[0]), Image.Resampling.BILINEAR)
    return (np.asarray(grey) >= 128).astype(np.uint8)


def collate_detection(items: Sequence[DetectionItem]) -> DetectionBatch:
    """Put images of any sizes into one batch, whose sides are multiples of the last stride."""
    sizes = [tuple(item.image.shape[1:]) for item in items]
    height, width = (-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*sizes, strict=True))
    images = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
    masks = torch.zeros(sum(len(i.masks) for i in items), height, width, dtype=torch.uint8)
    done = 0
    for place, item in enumerate(items):
        rows, columns = item.image.shape[1:]
        images[place, :, :rows, :columns] = item.image
        masks[done : done + len(item.masks), :rows, :columns] = item.masks
        done += len(item.masks)
    owners = [torch.full((len(item.labels),), place) for place, item in enumerate(items)]
    return DetectionBatch(
        images,
        torch.tensor(sizes),
        torch.cat([item.boxes for item in items]),
        torch.cat([item.labels for item in items]),
        masks,
        torch.cat(owners),
        torch.tensor([item.number for item in items]),
    )


def training_loader(
    config: DetectConfig, pictures: Sequence[Picture], process: Process = ALONE
) -> Loader:
    """Return a loader of ``config.batch_size`` images, in another order each epoch.

    The order and the changes follow from (seed, epoch) alone; several processes share each batch.
    Raises UserError where a batch cannot be shared out equally.
    """
    images = DetectionSet(pictures, config.data, config.augment, seed=config.run.seed)
    sampler = EpochShuffle(
        len(images),
        seed=config.run.seed,
        rank=process.rank,
        world_size=process.world_size,
        keyed=True,
    )
    share = equal_share("batch_size", config.batch_size, process.world_size)
    drop_last = len(sampler) >= share
    options = {"batch_size": share, "sampler": sampler, "drop_last": drop_last}
    return _loader(images, config.data.workers, config.run.seed, options)


def scoring_loader(found: CocoSet, data: DetectDataConfig, *, batch: int) -> Loader:
    """Return a loader of a whole set in order, unchanged."""
    images = DetectionSet(found.pictures, data)
    options = {"batch_size": batch, "sampler": SequentialSampler(images)}
    return _loader(images, data.workers, 0, options)


def _loader(images: DetectionSet, workers: int, seed: int, options: Mapping[str, Any]) -> Loader:
    return Loader(
        images,  # pyright: ignore[reportArgumentType]  # its items are of another type
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        persistent_workers=workers > 0,
        collate_fn=collate_detection,
        worker_init_fn=begin_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
        **options,
    )
