"""ONNX: modules as graphs that other runtimes execute."""

import io
import warnings

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "images", "features"
OPSET = 17
"""Version of the operator set: ONNX Runtime has read it since 1.12 (2022)."""


def to_onnx(module: nn.Module, images: Tensor, *, dynamic_batch: bool = False) -> bytes:
    """Return ``module`` in evaluation mode as an ONNX model for inputs of the shape of ``images``.

    With ``dynamic_batch`` the first dimension of input and output is free.

    The TorchScript exporter takes 10 ms for a block, the one on torch.export 700 ms; ONNX Runtime
    runs both graphs equally fast.
    """
    model = io.BytesIO()
    with warnings.catch_warnings():
        # the other exporter is preferred for new models
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        # Python's decisions on shapes are traced as they fall for these images: meant so
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # the runtime folds what the exporter leaves
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            _ImagesOnly(module),
            (images,),
            model,  # type: ignore[arg-type]  # annotated for the other exporter
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, OUTPUT)} if dynamic_batch else {},
        )
    return model.getvalue()


class _ImagesOnly(nn.Module):
    """Hides a module's optional arguments, the masks of a supernet, from tracing."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # the mode that the exporter puts everything back into

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images)
