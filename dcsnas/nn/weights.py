"""Weights on disk: safetensors with the architecture in the header, so that a file is complete."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dcsnas.config.bounds import MOST_HEADER
from dcsnas.config.errors import UserError
from dcsnas.config.files import AGAIN, file_digest, parse_json, reading, replacing
from dcsnas.config.runs import Input
from dcsnas.config.stages import DataConfig
from dcsnas.config.strict import Strict, validate
from dcsnas.nn.build import BackboneModule, ChainModule, build
from dcsnas.nn.heads import Head, TaskNetwork, head_for, plain_head
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace

HeldOut = Literal["held-out identities", "held-out images"]
Stage = Literal["search", "derive", "import", "pretrain", "retrain"]
OLD_THETA = re.compile(r"^((?:.*\.)?(?:layers\.\d+\.))theta\.(weight|bias)$")
WITH_HEAD: tuple[Stage, ...] = ("derive", "retrain")
"""Stages whose weights are a whole network's, the task's head included."""
OF_BACKBONE: tuple[Stage, ...] = ("import", "pretrain")
"""Stages whose weights are a backbone's, for a training to start from."""
DEFAULT_TASK = "reid"
"""Of files of before there were others; of theirs that hold no head, it says nothing."""


class ChosenEpoch(Strict):
    """Which epoch the weights are of where it was chosen by a score, and the score."""

    after_epochs: int
    """How many it was trained for, as the run's ``metrics.jsonl`` counts them."""
    metric: str
    """What the score is, such as ``map``."""
    score: float
    """In percent, the best of the training."""
    selected_on: Literal["test"] | HeldOut
    """Whose images that was taken on; the best of several scores on the test set is too high."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_versions(cls, content: Any) -> Any:
        """Take files that name an mAP alone, and those that count epochs from 0."""
        if not isinstance(content, dict):
            return content
        given = dict(content)
        if "map" in given:
            given |= {"metric": "map", "score": given.pop("map")}
        if "epoch" in given:
            given["after_epochs"] = given.pop("epoch") + 1
        return given


class WeightsHeader(Strict):
    """What a weights file says about itself."""

    stage: Stage
    """Which stage wrote it."""
    task: str = Field(default=DEFAULT_TASK, exclude_if=lambda task: task == DEFAULT_TASK)
    """What the network was trained for."""
    architecture: ArchitectureFile | None
    """None for a supernet, which is a whole space."""
    space_digest: str
    """The search space that the weights are of."""
    num_classes: int
    """Identities or classes that it was trained on."""
    input: tuple[int, int]
    """Height and width in pixels."""
    crop: float | None = Field(default=None, exclude_if=lambda crop: crop is None)
    """What a centre crop keeps of each side of an image; absent where images are squashed."""
    mean: tuple[float, float, float]
    """Subtracted from pixels of 0 to 1."""
    std: tuple[float, float, float]
    """What they are then divided by."""
    chosen_epoch: ChosenEpoch | None = None
    """None for the weights at the end of a training."""
    classes: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    """Names of the classes, by label, where the data set has them. Absent in older files."""
    trained_on: tuple[str, ...] = Field(default=(), exclude_if=lambda sets: not sets)
    """Digests of the training images, those of the weights that it started from first. A set of
    which some identities were held out counts whole. Empty in older files, and in imported ones."""


def header_of(
    stage: Stage,
    network: ArchitectureFile | SearchSpace,
    data: DataConfig,
    size: tuple[int, int],
    num_classes: int,
    *,
    task: str = DEFAULT_TASK,
    trained_on: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
) -> WeightsHeader:
    """Return the header for weights of a network or a supernet, trained at ``size``.

    ``trained_on`` are the digests of the training images, ``classes`` the names of what they show.
    """
    derived = isinstance(network, ArchitectureFile)
    return WeightsHeader(
        stage=stage,
        task=task,
        architecture=network if derived else None,
        space_digest=network.provenance.space_digest if derived else network.digest,
        num_classes=num_classes,
        input=size,
        crop=data.crop,
        mean=data.mean,
        std=data.std,
        classes=classes,
        trained_on=trained_on,
    )


def save_weights(path: Path, state: Mapping[str, Tensor], header: WeightsHeader) -> None:
    """Write a module's state and ``header`` to ``path`` atomically."""
    tensors = _on_cpu(state)
    with replacing(path) as partial:
        # the library's own writer answers a full disk with an error that is no OSError
        partial.write_bytes(save(tensors, metadata={"dcsnas": header.model_dump_json()}))


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def read_header(path: Path) -> WeightsHeader:
    """Return the header of a weights file; raises UserError where it is none of ours."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the .safetensors file of a run folder")
    metadata = read_metadata(path)
    if "dcsnas" not in metadata:
        raise UserError(f"{path}: has no dcsnas header; only weights saved by dcsnas can be used")
    try:
        content = parse_json(metadata["dcsnas"])
    except ValueError as error:
        raise UserError(f"{path}: its dcsnas header is broken ({error}); {AGAIN}") from None
    return validate(WeightsHeader, content, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself; raises UserError where it is none."""
    refuse_long_header(path)
    with reading_safetensors(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


@contextmanager
def reading_safetensors(path: Path) -> Iterator[None]:
    """Raise what the library does on a file that is none, or cannot be read, as a UserError."""
    try:
        yield
    except (SafetensorError, OSError, RuntimeError) as error:  # the last: torch's of a failing disk
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a safetensors file, or truncated ({reason}); {AGAIN}"
        ) from None


def refuse_long_header(path: Path) -> None:
    """Raise UserError where a safetensors file's header is longer than any of ours or others'.

    The library itself takes 100 MB of it, and several times as much memory to read them.
    """
    with reading(path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise UserError(
            f"{path}: not a safetensors file, or truncated (its header would have {length:,} "
            f"bytes, and at most {MOST_HEADER:,} are read); {AGAIN}"
        )


def weights_input(path: Path) -> Input:
    """Return what a run is told of the weights that it starts from; raises UserError as above."""
    header = read_header(path)
    facts = header.model_dump(mode="json", include={"stage", "num_classes", "input"})
    return Input(file_digest(path), str(path), facts)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by their names of today.

    Files of version 0.1 have the logits of DCS-Attention as ``theta`` of the module itself.
    """
    read_header(path)
    state = read_tensors(path)
    return {OLD_THETA.sub(r"\1selectors.dcs.theta.\2", name): t for name, t in state.items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file whose header was read; raises UserError."""
    with reading_safetensors(path):
        return load_file(path)


def load_weights(path: Path, module: nn.Module, *, architecture: ArchitectureFile) -> None:
    """Load a file's weights into ``module``, built from ``architecture``.

    Raises UserError where the file belongs to another network.
    """
    check_same_network(path, read_header(path), architecture)
    fill(module, read_state(path), path)


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load all tensors of ``path``; raises UserError where they are not those that it describes."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise UserError(f"{path}: its weights do not fit its header ({reason}); {AGAIN}") from None


class NetworkInUse(NamedTuple):
    """A whole network and what its use takes; ``source`` is its weights file, if it has one."""

    network: TaskNetwork
    header: WeightsHeader
    source: Path | None = None

    def __str__(self) -> str:
        return str(self.source or "the network in memory")

    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify the weights file, or the state in memory."""
        if self.source:
            return file_digest(self.source)
        return hashlib.sha256(save(_on_cpu(self.network.state_dict()))).hexdigest()[:16]

    @property
    def architecture_digest(self) -> str:
        """Return what identifies the architecture; empty where it is none of ours."""
        file = self.header.architecture
        return file.network.digest if file else ""


def network_in_memory(
    network: nn.Module,
    *,
    task: str,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
) -> NetworkInUse:
    """Return a module for use: a TaskNetwork, or one that maps images [B, 3, H, W] to features.

    Raises UserError where a value is not what a weights file's header can say.
    """
    parts = network.feature_parts if isinstance(network, ChainModule | BackboneModule) else ()
    head = head_for(parts, plain_head, num_classes=0) if parts else Head()
    whole = network if isinstance(network, TaskNetwork) else TaskNetwork(network, head)
    content = {
        "stage": "retrain", "task": task, "architecture": None, "space_digest": "",
        "num_classes": 0, "input": size, "mean": mean, "std": std,
    }  # fmt: skip
    return NetworkInUse(whole, validate(WeightsHeader, content, "the network in memory"))


def load_network(path: Path, head: Callable[[int, int], Head]) -> NetworkInUse:
    """Return a whole network, whose task's ``head`` takes the numbers of features and classes.

    Imported weights are of a backbone, whose features are taken as they are. Raises UserError for
    weights of another stage without a head.
    """
    header = read_header(path)
    imported = header.stage == "import"
    if header.architecture is None or not (imported or header.stage in WITH_HEAD):
        raise UserError(
            f"{path}: holds weights of stage '{header.stage}', which have no head; give the "
            "model.safetensors of a retrain run, or imported weights"
        )
    backbone = build(header.architecture.network)
    head = plain_head if imported else head
    neck = head_for(backbone.feature_parts, head, header.num_classes)
    network = TaskNetwork(backbone, neck)
    load_weights(path, backbone if imported else network, architecture=header.architecture)
    return NetworkInUse(network, header, path)


def check_same_network(path: Path, header: WeightsHeader, wanted: ArchitectureFile) -> None:
    """Raise UserError unless ``header`` is of the network ``wanted``."""
    found = header.architecture
    if found is None:
        raise UserError(f"{path}: holds a supernet, not one network; give it to retrain --from")
    if found.network.digest != wanted.network.digest:
        raise UserError(
            f"{path}: holds weights of another architecture ({found.network.digest}, "
            f"{found.params:,} parameters) than the one given ({wanted.network.digest}, "
            f"{wanted.params:,} parameters); use the architecture.yaml that lay beside its run"
        )
