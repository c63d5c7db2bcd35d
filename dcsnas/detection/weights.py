"""A detector on disk: safetensors with everything in the header that rebuilds and uses it."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from dcsnas.config.detection import DetectDataConfig, DetectorConfig
from dcsnas.config.errors import UserError
from dcsnas.config.files import AGAIN, parse_json, replacing
from dcsnas.config.strict import Strict, validate
from dcsnas.detection.detector import Detector, build_detector
from dcsnas.nn.build import Backbone
from dcsnas.nn.weights import (
    OF_BACKBONE,
    fill,
    read_header,
    read_metadata,
    read_state,
    read_tensors,
)
from dcsnas.spaces.architecture import ArchitectureFile

FILE = "detector.safetensors"
KEY = "dcsnas_detector"
BACKBONE = "pyramid.backbone."
ATTENTION = "attentions."


class DetectorHeader(Strict):
    """What a detector's file says about itself."""

    stage: Literal["train", "search"]
    architecture: ArchitectureFile
    detector: DetectorConfig
    categories: tuple[tuple[int, str], ...]
    """Ids and names of the set that it was trained on, by label from 1."""
    sides: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    trained_on: str
    """Digest of the annotations."""

    def data(self, root: Path, split: str, workers: int) -> DetectDataConfig:
        """Return how images of a set are shown to the detector."""
        seen = {"sides": self.sides, "mean": self.mean, "std": self.std}
        return DetectDataConfig(root=root, val=split, workers=workers, **seen)


class LoadedDetector(NamedTuple):
    """A detector with its weights, and what its use takes."""

    network: Detector
    header: DetectorHeader


def save_detector(path: Path, network: Detector, header: DetectorHeader) -> None:
    """Write a detector atomically."""
    state = {name: one.detach().cpu().contiguous() for name, one in network.state_dict().items()}
    with replacing(path) as partial:
        partial.write_bytes(save(state, metadata={KEY: header.model_dump_json()}))


def read_detector_header(path: Path) -> DetectorHeader:
    """Return the header of a detector's file; raises UserError where it is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the {FILE} of a run of dcsnas detect train")
    metadata = read_metadata(path)
    if KEY not in metadata:
        raise UserError(f"{path}: holds no detector; give the {FILE} of dcsnas detect train")
    try:
        content = parse_json(metadata[KEY])
    except ValueError as error:
        raise UserError(f"{path}: its header is broken ({error}); {AGAIN}") from None
    return validate(DetectorHeader, content, path)


def load_detector(path: Path) -> LoadedDetector:
    """Return a detector in evaluation mode; raises UserError where the file is none or damaged."""
    header = read_detector_header(path)
    classes = len(header.categories) + 1
    state = read_tensors(path)
    with torch.device("meta"):  # takes no memory, whatever numbers the header holds
        expected = build_detector(header.architecture, header.detector, classes).state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in expected.items()}:
        raise UserError(f"{path}: its weights do not fit its header; {AGAIN}")
    network = build_detector(header.architecture, header.detector, classes)
    fill(network, state, path)
    return LoadedDetector(network.eval(), header)


def start_from(backbone: Backbone, path: Path) -> None:
    """Fill a backbone from a pretrained or imported one, or from that of a detector.

    Attention that the file does not have starts fresh. Raises UserError where else they differ.
    """
    if _is_detector(path):
        own = {k: v for k, v in read_tensors(path).items() if k.startswith(BACKBONE)}
        state = {name.removeprefix(BACKBONE): tensor for name, tensor in own.items()}
    else:
        state = _backbone_state(path)
    try:
        missing, unknown = backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip().partition("\n")[0]
        raise UserError(f"{path}: the weights of another backbone ({reason})") from None
    others = [name for name in (*missing, *unknown) if not name.startswith(ATTENTION)]
    if others:
        raise UserError(
            f"{path}: the weights of another backbone than the architecture's (for example "
            f"{others[0]} is not in both); give weights of the same backbone"
        )


def _backbone_state(path: Path) -> dict[str, Tensor]:
    header = read_header(path)
    if header.stage not in OF_BACKBONE:
        raise UserError(
            f"{path}: holds weights of stage '{header.stage}'; give the backbone.safetensors of "
            f"pretrain, imported weights, or the {FILE} of dcsnas detect"
        )
    return read_state(path)


def _is_detector(path: Path) -> bool:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give weights to start from, or leave --from out")
    return KEY in read_metadata(path)
