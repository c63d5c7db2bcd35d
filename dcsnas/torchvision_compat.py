"""Letting torchvision import beside a torch that it was not built for.

PyPI's torchvision needs a CUDA build of torch; beside a CPU build its compiled operators are
missing, and the first look at ``torchvision::nms`` fails. timm imports torchvision, and where it is
installed Lightning's torchmetrics does too, so the whole package would stop working. Nothing here
uses those operators but detection, so it is enough to declare what is looked up.
"""

import sys
from types import ModuleType

_libraries: list[object] = []
"""What was declared lives as long as the library object does."""


class _BeforeTorchvision:
    """Declares the operators when somebody imports torchvision, and not before: it takes torch."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            declare_operators()


def declare_before_torchvision() -> None:
    """Have the operators declared before anything in this process imports torchvision."""
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _BeforeTorchvision())  # type: ignore[arg-type]


def declare_operators() -> None:
    """Declare the operators that torchvision's Python looks up and that torch does not have."""
    import torch

    schemas = {
        "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    for name, schema in schemas.items():
        if not hasattr(torch.ops.torchvision, name):
            # a fragment, because a library may be defined once a process
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(schema)
            _libraries.append(library)
