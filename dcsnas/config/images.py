"""The configuration of images: where they are, how they are loaded, and how training changes them.

Shares are fractions; sizes are (height, width) in pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dcsnas.config.strict import Strict, meant_before

Share = Annotated[float, Field(ge=0, le=1)]
Size = tuple[PositiveInt, PositiveInt]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CROP = 224 / 256
"""Of an image scaled to 256 on its shorter side, the centre crop of 224."""


class VariantConfig(Strict):
    """Which part of a data set that has several; every other data set ignores it."""

    msmt17: Literal["train", "train+val"] = "train"
    """Training images of MSMT17: 30,248, as in most papers, or all 32,621."""
    cuhk03: Literal["detected", "labeled"] = "detected"
    """Bounding boxes of CUHK03: a detector's or drawn by hand."""
    cuhk03_classic: Annotated[int, Field(ge=0, lt=20)] | None = None
    """Number of a classic split of CUHK03 (1,367/100 identities); null is the new protocol."""


DEFAULT_VARIANT = VariantConfig()


class ClassesConfig(Strict):
    """Which classes of an image folder; all unless given. Every other data set ignores it."""

    count: Annotated[int, Field(ge=2)] | None = None
    """So many, drawn by ``seed`` from the names in sorted order."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Draws the names of ``count``."""
    file: Path | None = None
    """Text file with the name of a class in each line, or at the beginning of each."""

    @model_validator(mode="after")
    def _one_way(self) -> "ClassesConfig":
        if self.count is not None and self.file is not None:
            raise ValueError(
                f"count is {self.count} and file is {self.file}: classes are drawn or listed; "
                "remove one of the two"
            )
        return self


ALL_CLASSES = ClassesConfig()


class DataConfig(Strict):
    """Where the images are and how they are loaded."""

    root: Path
    """Folder of the data set, or a CSV file; ``--data`` sets it."""
    variant: VariantConfig = DEFAULT_VARIANT
    classes: ClassesConfig = ALL_CLASSES
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """What a centre crop keeps of each side of an image that is scaled, in its own proportions, to
    just contain it; null squashes the whole image to the input."""
    workers: NonNegativeInt = 2
    """Further processes that read and scale images."""
    in_memory: bool = False
    """Whether training images are decoded once and held, in a search also those that networks are
    scored on; a folder of more than fits is refused."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from pixels of 0 to 1, for red, green and blue."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD
    """What they are then divided by."""


class ClassDataConfig(DataConfig):
    """Images of classes: in evaluation the centre of each is seen, never squashed."""

    crop: Annotated[float, Field(gt=0, le=1)] | None = meant_before(None, now=IMAGENET_CROP)


class RandomCropConfig(Strict):
    """A random part of each training image, scaled to the input.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Section 6.
    """

    area: tuple[Share, Share] = (0.08, 1.0)
    """Least and largest share of the image's area."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Least and largest ratio of width to height, of the input's own ratio."""

    @model_validator(mode="after")
    def _in_order(self) -> "RandomCropConfig":
        for name, (least, most) in (("area", self.area), ("ratio", self.ratio)):
            if not 0 < least <= most:
                raise ValueError(
                    f"{name} is [{least:g}, {most:g}]; give the least value, above 0, and then the "
                    "largest"
                )
        return self


class RandAugmentConfig(Strict):
    """Random operations on each training image.

    Source: Cubuk et al., "RandAugment", CVPR Workshops 2020.
    """

    operations: PositiveInt = 2
    """So many, one after another (the paper's N)."""
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    """How strong they are (the paper's M)."""


class AugmentConfig(Strict):
    """Random changes of the training images."""

    crop: RandomCropConfig | None = None
    """A random part of each; null is what evaluation sees of it."""
    randaugment: RandAugmentConfig | None = None
    pad: NonNegativeInt = 10
    """Pixels added on each side before a random crop back to the input size."""
    flip: Share = 0.5
    """Probability of a mirror image."""
    erase: Share = 0.5
    """Probability that a random rectangle is erased."""
    erase_value: Literal["mean", "bot"] = "mean"
    """What erasing fills with: the mean colour, or the value of Bag of Tricks' program."""


class MixingConfig(AugmentConfig):
    """Random changes where images may also be mixed; with both, each batch draws one of them."""

    mixup: NonNegativeFloat = 0.0
    """Beta parameter of mixup; 0 is off."""
    cutmix: NonNegativeFloat = 0.0
    """Beta parameter of cutmix; 0 is off."""


class ClassAugmentConfig(AugmentConfig):
    """Random changes of images of classes: a random part of each, unless ``pad`` is given."""

    crop: RandomCropConfig | None = meant_before(None, now=RandomCropConfig())
    pad: NonNegativeInt = 0
    erase: Share = 0.0

    @model_validator(mode="before")
    @classmethod
    def _pad_or_crop(cls, content: Any) -> Any:
        """Let padding stand in for the random part, as in files of before that was there."""
        if isinstance(content, Mapping) and content.get("pad") and "crop" not in content:
            return {**content, "crop": None}
        return content

    @model_validator(mode="after")
    def _not_both(self) -> "ClassAugmentConfig":
        if self.pad and self.crop:
            raise ValueError(
                f"pad is {self.pad} and crop is given: an image is cropped at random in one of two "
                "ways; set pad to 0, or crop to null"
            )
        return self


class ClassMixingConfig(ClassAugmentConfig, MixingConfig):
    """The same where images may also be mixed."""
