"""Letting torchvision import beside a torch that it was not built for.

PyPI's torchvision needs a CUDA build of torch; beside a CPU build its compiled part does not load,
and its Python part then fails for lack of two operators. timm brings torchvision along, and where
it is installed Lightning's torchmetrics imports it too, so everything here would stop working.
Nothing here uses these operators, so it is enough to declare them.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""What torchvision's Python part looks up while it is imported."""

_declared: list[object] = []
"""Kept, since a declaration lives as long as its library object."""


class _BeforeTorchvision:
    """Declares the operators when somebody imports torchvision, and not before: it takes torch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            found = PathFinder.find_spec(name)
            if found and not _compiled_part_loads(found):
                declare_operators()


def declare_before_torchvision() -> None:
    """Have the operators declared before anything in this process imports torchvision."""
    if "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _BeforeTorchvision())  # type: ignore[arg-type]


def declare_operators() -> None:
    """Declare the operators that torchvision's Python looks up and that torch does not have."""
    import torch

    # DEF may stand once a process, and may have been taken; FRAGMENT adds to what is there
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)


def _compiled_part_loads(torchvision: ModuleSpec) -> bool:
    import torch

    compiled = [
        file
        for folder in torchvision.submodule_search_locations or []
        for file in (*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd"))
    ]
    try:
        for file in compiled:
            torch.ops.load_library(file)
    except (OSError, RuntimeError):
        return False
    return bool(compiled)
