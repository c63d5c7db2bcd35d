"""The configuration of detection: the data, the detector around a backbone, and its training.

Defaults are those of ConvNeXt's Cascade Mask R-CNN on COCO (Liu et al., "A ConvNet for the 2020s",
CVPR 2022, Appendix A.3) where it gives one, else torchvision's. Sizes are in pixels.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dcsnas.config.images import IMAGENET_MEAN, IMAGENET_STD, Share
from dcsnas.config.stages import OptimizerConfig, RunConfig
from dcsnas.config.strict import Strict

Pair = tuple[PositiveInt, PositiveInt]
Width = Annotated[int, Field(gt=0, le=2**16)]
"""A number of channels or features."""
Depth = Annotated[int, Field(ge=0, le=100)]
"""A number of layers."""


class DetectDataConfig(Strict):
    """A folder in COCO's layout: ``SPLIT/`` and ``annotations/instances_SPLIT.json``."""

    root: Path
    """Folder of the set."""
    train: str = "train"
    """Split that is trained on."""
    val: str = "val"
    """Split that is scored on; COCO's are train2017 and val2017."""
    sides: Pair = (800, 1333)
    """An image is scaled, in its own proportions, to this shorter side, unless the longer one would
    exceed the second."""
    workers: NonNegativeInt = 2
    """Processes that read images, 0: none beside the training's own."""
    skip_faulty: bool = False
    """Whether images and annotations with faults are left out instead of refused."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from red, green and blue between 0 and 1."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = IMAGENET_STD
    """What they are then divided by."""


class DetectAugmentConfig(Strict):
    """Random changes of a training image, drawn from (seed, epoch, image)."""

    flip: Share = 0.5
    """Share of the images that are mirrored."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.0)
    """Least and largest factor of ``data.sides`` for a training image."""
    brightness: Share = 0.0
    """Largest change of brightness and of contrast, as a share."""

    @model_validator(mode="after")
    def _in_order(self) -> "DetectAugmentConfig":
        least, most = self.scale
        if least > most:
            raise ValueError(f"scale is [{least:g}, {most:g}]; give the least value first")
        return self


class DetectorConfig(Strict):
    """The parts around the backbone: FPN, RPN, three box stages, a mask head."""

    channels: Width = 256
    """Of each map of the pyramid."""
    anchor_scale: PositiveFloat = 8.0
    """Side of a map's square anchor, in strides of that map."""
    anchor_ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0)
    """Height to width."""
    proposals_before: Pair = (2000, 1000)
    """Of each map, before suppression: in training, in evaluation."""
    proposals: Pair = (2000, 1000)
    """Of an image, after it."""
    anchors_per_image: PositiveInt = 256
    """Drawn for the losses of the proposal network."""
    boxes_per_image: PositiveInt = 512
    """Proposals drawn for the losses of the first box stage."""
    samples: PositiveInt = 2
    """Points along each side of the cells that a box is sampled in."""
    box_convolutions: Depth = 4
    """3x3 convolutions in each box stage; 0 puts a second linear layer in their place."""
    box_features: Width = 1024
    """Width of each box stage's linear layer."""
    mask_convolutions: Annotated[Depth, Field(gt=0)] = 4
    """3x3 convolutions of the mask head."""
    mask_channels: Width = 256
    """Of each of them."""
    ious: tuple[Share, Share, Share] = (0.5, 0.6, 0.7)
    """From which overlap on a proposal is a thing, by stage."""
    loss_weights: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 0.5, 0.25)
    """Source: Cai and Vasconcelos, "Cascade R-CNN", TPAMI 2019."""
    least_score: Share = 0.05
    """Of a detection that is kept."""
    suppression: Share = 0.5
    """Overlap from which on the less certain of two detections of a category is dropped."""
    detections: PositiveInt = 100
    """Most of an image."""


class AttentionSearchConfig(Strict):
    """Search of what the backbone's attention selects, as 2022, Section 3.3: two halves of the set.

    In turns a batch of one part trains the weights, and a batch of the other the attention.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the training images, for the weights."""
    optimizer: OptimizerConfig = OptimizerConfig(
        name="adam", lr=3e-4, weight_decay=1e-3, schedule="constant"
    )


class DetectConfig(Strict):
    """What ``dcsnas detect train`` and ``dcsnas detect search`` are told."""

    task: Literal["detect"] = "detect"
    data: DetectDataConfig
    detector: DetectorConfig = DetectorConfig()
    epochs: PositiveInt = 70
    """Passes over the training images."""
    batch_size: PositiveInt = 16
    """Images of all processes together."""
    augment: DetectAugmentConfig = DetectAugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig(
        name="adamw", lr=1e-4, weight_decay=0.05, milestones=(27 / 36, 33 / 36), warmup=0.01
    )
    hold_selection: bool = False
    """Whether what the attention selects stays as it starts, as after a search of it."""
    search: AttentionSearchConfig = AttentionSearchConfig()
    """Of the attention; ``dcsnas detect train`` ignores it."""
    validate_every: NonNegativeInt = 0
    """Epochs between scores, which are logged; 0 scores nothing. The last weights are kept."""
    run: RunConfig = RunConfig(gradient_clip=10.0)
