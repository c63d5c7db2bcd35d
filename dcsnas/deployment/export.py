"""Export: one ONNX file that turns pixels into features, or classes, without dcsnas or torch.

Shapes: B images, D features, C classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing
from dcsnas.data.augment import Normalize
from dcsnas.deployment.parity import Difference, compare, onnx_run
from dcsnas.latency.backends.onnx_runtime import require_onnx, to_onnx
from dcsnas.nn.heads import BNNeck, Head, LinearHead, TaskNetwork
from dcsnas.nn.weights import NetworkInUse, WeightsHeader, load_network, read_header

TOLERANCE = 1e-4
"""Largest difference from torch of a value in a feature of length 1; and how far from 0, relative
to the others, a theta may be whose channel is selected otherwise."""
BATCHES = (1, 3)
_TRACED = 2  # another one, so that a batch size fixed by mistake fails the check


class PixelsToFeatures(nn.Module):
    """A network with what surrounds it in use: normalisation before, unit length after."""

    def __init__(self, network: TaskNetwork, header: WeightsHeader) -> None:
        super().__init__()
        self.normalize = Normalize(header.mean, header.std)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB images, uint8 [B, 3, H, W], to L2-normalised features [B, D]."""
        return F.normalize(self.network.embed(self.normalize(images)))


class PixelsToProbabilities(nn.Module):
    """A classifier with what surrounds it in use: normalisation before, softmax after."""

    def __init__(self, network: TaskNetwork, header: WeightsHeader) -> None:
        super().__init__()
        self.normalize = Normalize(header.mean, header.std)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Map RGB images, uint8 [B, 3, H, W], to the probabilities of classes [B, C]."""
        return self.network(self.normalize(images)).logits.softmax(1)


@dataclass(frozen=True)
class Use:
    """How a task's networks are used without dcsnas: what is made of them, and what comes out.

    ``head`` is what the task puts on a backbone.
    """

    head: Callable[[int, int], Head]
    module: type[PixelsToFeatures] | type[PixelsToProbabilities]
    output: str


USES: dict[str, Use] = {
    "reid": Use(BNNeck, PixelsToFeatures, "features"),
    "classify": Use(LinearHead, PixelsToProbabilities, "probabilities"),
}


@dataclass(frozen=True)
class Exported:
    """An exported file: its size in bytes, input (height, width), D or C, and how far from torch.

    ``output`` names what comes out: features or probabilities. ``batch`` is the number of images
    that it takes; None where any number may be given.
    """

    num_bytes: int
    input: tuple[int, int]
    feature_dim: int
    differences: tuple[Difference, ...]
    output: str
    batch: int | None = None


def export_onnx(weights: Path | NetworkInUse, out: Path) -> Exported:
    """Write the network of a file, or one in memory, as an ONNX model, checked against torch.

    Input ``images`` is uint8 [B, 3, H, W], RGB, any B. Output is ``features``, float32 [B, D] of
    unit length, or of a classifier ``probabilities`` [B, C]. The file's ``metadata_props`` say
    which network it is and how far from torch.

    Raises:
        UserError: ``weights`` is not of a retrain run, a package is missing, or ONNX Runtime
            differs from torch by more than TOLERANCE; nothing is written then.

    """
    require_onnx("export to ONNX")
    content, exported = onnx_model(exportable(weights), out)
    with replacing(out) as partial:
        partial.write_bytes(content)
    return exported


def exportable(weights: Path | NetworkInUse) -> NetworkInUse:
    """Return the network of a weights file, or one in memory; raises UserError for other tasks."""
    header = read_header(weights) if isinstance(weights, Path) else weights.header
    if header.task not in USES:
        raise UserError(
            f"{weights}: holds a network of task '{header.task}', of which it is not known what an "
            f"export gives; there is one of task {' or '.join(USES)}"
        )
    in_file = isinstance(weights, Path)
    return load_network(weights, USES[header.task].head) if in_file else weights


def onnx_model(used: NetworkInUse, out: Path) -> tuple[bytes, Exported]:
    """Return a network as the content of the ONNX file ``out``, checked as ``export_onnx`` says."""
    size, output, module = used.header.input, USES[used.header.task].output, in_use(used)
    model = to_onnx(module, random_pixels(_TRACED, size), dynamic_batch=True, output=output)
    run = onnx_run(model)
    differences = [compare(run, module, random_pixels(batch, size)) for batch in BATCHES]
    worst = within_tolerance(out, differences, output, "ONNX Runtime")
    content = with_metadata(model, {**properties(used), "max_difference": worst})
    length = module(random_pixels(1, size)).shape[1]
    return content, Exported(len(content), size, length, tuple(differences), output)


def in_use(used: NetworkInUse) -> nn.Module:
    """Return a copy of the network from pixels on, on the CPU: it may be in use elsewhere."""
    return USES[used.header.task].module(deepcopy(used.network), used.header).cpu().eval()


def properties(used: NetworkInUse) -> dict[str, object]:
    """Return what an exported file says of its network."""
    header = used.header
    return {
        "dcsnas_version": __version__,
        "architecture": used.architecture_digest,
        "weights": used.digest(),
        "input": header.input,
        "mean": header.mean,
        "std": header.std,
        **({} if header.crop is None else {"crop": header.crop}),
        **({"classes": header.classes} if header.classes else {}),
    }


def within_tolerance(
    out: Path, differences: Sequence[Difference], output: str, runtime: str
) -> float:
    """Return the largest difference of the output; raises UserError where that is too much."""
    worst = float(np.max([difference.features for difference in differences]))
    margin = float(np.max([difference.margin for difference in differences]))
    if worst <= TOLERANCE and margin <= TOLERANCE:  # not so for NaN
        return worst
    raise UserError(
        f"{out}: not written, because {runtime} differs from torch by {worst:.1e} in {output} "
        f"and selects channels otherwise up to {margin:.1e} from 0; allowed: "
        f"{TOLERANCE:g} each; install the versions of constraints.txt, and check with dcsnas "
        "evaluate that the network did not diverge"
    )


def random_pixels(batch: int, size: tuple[int, int]) -> Tensor:
    """Return random images, uint8 [batch, 3, H, W], the same at every call."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(256, (batch, 3, *size), generator=generator, dtype=torch.uint8)


def with_metadata(model: bytes, properties: Mapping[str, object]) -> bytes:
    """Return ``model`` with ``metadata_props``: text as it is, other values as JSON."""
    import onnx

    proto = onnx.load_from_string(model)
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in properties.items()}
    onnx.helper.set_model_props(proto, texts)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()
