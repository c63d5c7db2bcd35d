"""The configuration of the training stages: what may stand in a YAML file, and the defaults.

Defaults are the papers' where they give one (``docs/decisions.md`` says where they do not).
Learning rates are per step; shares and milestones are fractions of the run, so that a short run
has the same schedule as a long one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dcsnas.config.durations import EpochCount, in_epochs
from dcsnas.config.errors import UserError
from dcsnas.config.images import DEFAULT_VARIANT as DEFAULT_VARIANT
from dcsnas.config.images import IMAGENET_MEAN as IMAGENET_MEAN
from dcsnas.config.images import IMAGENET_STD as IMAGENET_STD
from dcsnas.config.images import AugmentConfig as AugmentConfig
from dcsnas.config.images import ClassDataConfig, ClassMixingConfig, MixingConfig, Share, Size
from dcsnas.config.images import DataConfig as DataConfig
from dcsnas.config.images import VariantConfig as VariantConfig
from dcsnas.config.plugins import registered
from dcsnas.config.strict import Strict


class BatchConfig(Strict):
    """PK batches: P identities with K images each."""

    identities: Annotated[int, Field(ge=2)] = 16
    """Different people in a batch."""
    images: Annotated[int, Field(ge=2)] = 4
    """Of each of them; where one has fewer, some come twice."""


class LossConfig(Strict):
    """The paper's Equation 4, cross-entropy + triplet + eta * IBB, and a centre loss."""

    label_smoothing: Share = 0.1
    """Probability that the cross-entropy's target spreads over all classes."""
    margin: PositiveFloat | None = 0.3
    """Triplet margin; null is the soft margin."""
    eta: NonNegativeFloat = 0.1
    """Weight of the information-bottleneck bound."""
    eta_warmup: Share = 0.3
    """Share of the run over which eta grows from 0."""
    ib_size: Size = (16, 8)
    """Rows and columns that the image is pooled to as the bound's input feature X."""
    ib_temperature: PositiveFloat = 0.2
    """What the bound's squared distances between unit vectors are divided by. At 1, the papers'
    formula, IBB hardly tells many classes apart. Values at different ones do not compare."""
    ib_centered: bool = True
    """Whether those vectors are deviations from the mean over all training images. Features after a
    ReLU lie in a narrow cone, in which unit vectors of all classes are nearly one; false is the
    papers' formula as it reads."""
    center: NonNegativeFloat = 0.0
    """Weight of the centre loss; Bag of Tricks' is 0.0005."""


class CriticConfig(Strict):
    """A critic of attention of the kinds ``scal_channel`` and ``scal_spatial``, after SCAL.

    All of these are ours: of that paper the formulas alone were to be had.
    """

    weight: NonNegativeFloat = 0.1
    """Of the critic's value, which the attention raises; 0 trains the critic without effect."""
    warmup: Share = 0.1
    """Share of the run over which the critic learns before the attention listens to it."""
    lr: PositiveFloat | None = None
    """Of the critic's Adam, constant; null is ``optimizer.lr``."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of what is added to the attention that the critic learns from, which takes
    a further pass through the network; 0 takes the attention of the training itself."""


class OptimizerConfig(Strict):
    """Optimiser and learning-rate schedule."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    """The rule that steps are made by."""
    lr: PositiveFloat = 0.035
    """Learning rate after the warm-up."""
    momentum: Share = 0.9
    """Of ``sgd``."""
    weight_decay: NonNegativeFloat = 5e-4
    """Added to gradients as L2, or in ``adamw`` apart from them."""
    schedule: Literal["steps", "cosine", "constant"] = "steps"
    """How the learning rate falls: by ``gamma`` at milestones, as half a cosine to 0, or not."""
    milestones: tuple[Share, ...] = (0.5, 0.8)
    """Of ``steps``: shares of the run."""
    gamma: PositiveFloat = 0.1
    """Of ``steps``: what the learning rate is multiplied by at each milestone."""
    warmup: Share = 0.0
    """Share of the run over which the learning rate grows linearly from a hundredth."""


class RunConfig(Strict):
    """How a stage runs: seed, device, precision."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides every random draw, together with epoch and step."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` is a CUDA device where there is one."""
    devices: PositiveInt = 1
    """Processes on a machine, each with a device of its own and an equal share of every batch."""
    threads: PositiveInt | None = None
    """CPU threads within an operator; torch's default, all cores, unless given."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Type of activations: float32, or bfloat16 where torch computes safely in it."""
    gradient_clip: PositiveFloat | None = None
    """Largest norm of the weights' gradient."""
    checkpoint_minutes: PositiveFloat = 10.0
    """Time between checkpoints within an epoch; a search writes one at the end of each alone."""


class ValidationConfig(Strict):
    """Scores during a training, the best of which chooses the epoch whose weights are kept."""

    every: NonNegativeInt = 0
    """Epochs between scores, the last epoch is scored too; 0 keeps the last epoch's weights."""
    hold_out: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the training identities, or of each class's images, to score on instead of training
    on them; 0 scores what ``dcsnas evaluate`` does, whose data is then no longer unseen."""

    @property
    def folds(self) -> int:
        """Return of how many equal parts of the training identities one is held out."""
        return round(1 / self.hold_out)

    @model_validator(mode="after")
    def _is_a_part(self) -> "ValidationConfig":
        if not self.hold_out:
            return self
        if not self.every:
            raise ValueError(
                f"hold_out is {self.hold_out:g}, but every is 0, so the held-out images would "
                "never be scored; set every, or hold_out to 0"
            )
        if abs(1 / self.hold_out - self.folds) > 0.01 * self.folds:
            raise ValueError(
                f"hold_out is {self.hold_out:g}, which is not one part of a whole number of parts; "
                f"set it to {1 / self.folds:.4g}, one of {self.folds}, or another such share"
            )
        return self


def _known_task(name: str) -> str:
    """Return ``name``; raises UserError where there is no task of that name."""
    registered(TRAIN_CONFIGS, name, "task")
    return name


TaskName = Annotated[str, AfterValidator(_known_task)]


class TrainConfig(Strict):
    """What every training has; the class of a task adds what its batches and its loss need."""

    task: TaskName
    """What is trained for: ``reid``, ``classify`` or a plugin's."""
    data: DataConfig
    input: Size | None = None
    """(height, width); the architecture file's unless given."""
    epochs: PositiveInt
    """Passes over the training images."""
    classifier_epochs: EpochCount = 0
    """First epochs, or a share of all, that train the head alone; for a pretrained backbone."""
    augment: MixingConfig = MixingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    critic: CriticConfig | None = Field(default=None, exclude_if=lambda critic: critic is None)
    """Self-critical attention; null is none."""
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay per step of the moving average of the weights, which is then the result."""
    validation: ValidationConfig = ValidationConfig()
    run: RunConfig = RunConfig()

    _shares_become_epochs = in_epochs("classifier_epochs")

    @property
    def holds_out(self) -> bool:
        """Return whether training identities are scored that are not trained on."""
        return self.validation.hold_out > 0

    @model_validator(mode="after")
    def _backbone_is_trained(self) -> "TrainConfig":
        if self.classifier_epochs >= self.epochs:
            raise ValueError(
                f"classifier_epochs is {self.classifier_epochs} of {self.epochs} epochs, so the "
                "backbone would never be trained; give less, or a share"
            )
        return self


class PretrainConfig(TrainConfig):
    """Task ``classify``, which ``dcsnas pretrain`` trains for: an image folder such as ImageNet."""

    task: TaskName = "classify"
    data: ClassDataConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    epochs: PositiveInt = 350
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Images at a time."""
    label_smoothing: Share = 0.1
    """Probability that the cross-entropy's target spreads over all classes."""
    augment: ClassMixingConfig = ClassMixingConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=0.05, weight_decay=4e-5, milestones=(100 / 350, 200 / 350, 300 / 350)
    )


class RetrainConfig(TrainConfig):
    """Task ``reid``, which ``dcsnas retrain`` trains for, on any data set of ``docs/data.md``."""

    task: TaskName = "reid"
    epochs: PositiveInt = 400
    batch: BatchConfig = BatchConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig(name="adam", lr=3.5e-4, milestones=(0.5, 0.75))


TRAIN_CONFIGS: dict[str, type[TrainConfig]] = {"classify": PretrainConfig, "reid": RetrainConfig}
"""The class of a training's configuration, by task."""
DEFAULT_TASKS = {"search": "reid", "pretrain": "classify", "retrain": "reid"}
"""The task of a stage whose file names none."""

C = TypeVar("C", bound=Strict)


def class_for_task(
    classes: Mapping[str, type[C]], stage: str, content: Mapping[str, Any]
) -> type[C]:
    """Return the class of the task that a stage's file names.

    Where there is no such task it is the default one's, which refuses the name.
    """
    default = DEFAULT_TASKS[stage]
    try:
        return registered(classes, content.get("task", default), "task")
    except UserError:
        return classes[default]


def train_model(stage: str, content: Mapping[str, Any]) -> type[TrainConfig]:
    """Return the class of the configuration in a file for ``stage``, pretrain or retrain."""
    return class_for_task(TRAIN_CONFIGS, stage, content)
