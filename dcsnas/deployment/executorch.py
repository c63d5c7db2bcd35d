"""Export to ExecuTorch, which runs on phones and boards: XNNPACK's kernels where it has them.

Shapes: B images, N tokens, C channels, D features.
"""

import importlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.files import replacing
from dcsnas.deployment.export import (
    USES,
    Exported,
    exportable,
    in_use,
    properties,
    random_pixels,
    within_tolerance,
)
from dcsnas.deployment.parity import Run, compare, maskings
from dcsnas.nn.weights import NetworkInUse

BATCH = 1
"""Memory is planned when the program is made, for so many images."""
CHECKS = 3
"""Random images that the program is compared with torch on."""
METADATA = "metadata"
"""The program's second method: it takes nothing and returns one text of JSON."""
INSTALL = "pip install --no-deps executorch==1.5.1 torchao==0.18.0 ruamel.yaml"
"""Without dependencies: Core ML's tools, tokenizers and others, which nothing here imports."""
EXIR, PARTITIONER, RUNTIME = (
    "executorch.exir",
    "executorch.backends.xnnpack.partition.xnnpack_partitioner",
    "executorch.runtime",
)


def export_executorch(weights: Path | NetworkInUse, out: Path) -> Exported:
    """Write the network of a file, or one in memory, as an ExecuTorch program for one image.

    Its method ``forward`` takes uint8 [1, 3, H, W], RGB, and returns features [1, D] of unit
    length, or the probabilities of classes; ``metadata`` returns what ONNX files say in their
    ``metadata_props``, the difference from torch excepted.

    Raises:
        UserError: ``weights`` is not of a retrain run, a package is missing, or the program
            differs from torch by more than an ONNX file may; nothing is written then.

    """
    with _quiet():
        for name in (EXIR, PARTITIONER, RUNTIME):
            _imported(name)
    used = exportable(weights)
    module, size = in_use(used), used.header.input
    pixels = random_pixels(BATCH, size)
    program = lowered(module, pixels, json.dumps(properties(used)))
    run = executorch_run(program, module, pixels)
    checked = random_pixels(CHECKS, size).split(BATCH)
    differences = tuple(compare(run, module, images) for images in checked)
    output = USES[used.header.task].output
    within_tolerance(out, differences, output, "ExecuTorch")
    with replacing(out) as partial:
        partial.write_bytes(program)
    return Exported(len(program), size, module(pixels).shape[1], differences, output, BATCH)


def lowered(module: nn.Module, pixels: Tensor, metadata: str = "") -> bytes:
    """Return ``module`` as a program for images of the shape of ``pixels``."""
    with _quiet(), torch.no_grad():
        partitioner = _imported(PARTITIONER).XnnpackPartitioner()
        exported = torch.export.export(module, (pixels,))
        edge = _imported(EXIR).to_edge_transform_and_lower(
            exported, partitioner=[partitioner], constant_methods={METADATA: metadata}
        )
        return edge.to_executorch().buffer


def executorch_run(program: bytes, module: nn.Module, pixels: Tensor) -> Run:
    """Return what runs ``program``; a second one, made for it, tells the masks of attention."""
    with_masks = lowered(_WithMasks(module), pixels) if maskings(module) else None

    def run(images: Tensor) -> tuple[Tensor, list[Tensor]]:
        (features,) = call(program, "forward", images)
        if with_masks is None:
            return features, []
        _, *masks = call(with_masks, "forward", images)
        return features, [mask > 0.5 for mask in masks]

    return run


def call(program: bytes, method: str, *inputs: Tensor) -> list:
    """Return what a method of an ExecuTorch program returns."""
    with _quiet():
        loaded = _imported(RUNTIME).Runtime.get().load_program(program)
        # memory is read as it lies, whatever strides say
        outputs = loaded.load_method(method).execute([each.contiguous() for each in inputs])
        # they lie in the program's memory, which goes with it
        return [o.clone() if isinstance(o, Tensor) else o for o in outputs]


class _WithMasks(nn.Module):
    """A network that also returns the mask [B, N, C] of each of its attention modules."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        masks: list[Tensor] = []

        def keep(masking: nn.Module, inputs: tuple[Tensor], mask: Tensor) -> None:
            masks.append(mask)

        with ExitStack() as hooks:
            for masking in maskings(self.module):
                hooks.callback(masking.register_forward_hook(keep).remove)
            features = self.module(images)
        return features, *masks


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"export to ExecuTorch: a package is not installed ({error}); run: {INSTALL}"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what these libraries say of kernels for other devices from standard error.

    Some of it is written by C++ to the file descriptor itself.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
