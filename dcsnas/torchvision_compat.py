"""Letting torchvision import beside a torch that it was not built for.

PyPI's torchvision needs a CUDA build of torch; beside a CPU build its compiled part does not load,
and its Python part then fails for lack of two operators. timm brings torchvision along, and where
it is installed Lightning's torchmetrics imports it too, so everything here would stop working.
Nothing here uses these operators, so it is enough to declare them.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""What torchvision's Python part looks up while it is imported."""

_declared: list[object] = []
"""Kept, since a declaration lives as long as its library object."""


class _Declaring:
    """Finds torchvision and executes it, once more with the operators declared where that fails."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name) if name == "torchvision" else None
        if spec is not None:
            self.found, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.found.create_module(spec)  # type: ignore[union-attr]

    def exec_module(self, module: ModuleType) -> None:
        assert self.found is not None
        try:
            self.found.exec_module(module)
        except RuntimeError:  # operator torchvision::nms does not exist
            declare_operators()
            self.found.exec_module(module)


def mend_torchvision() -> None:
    """Have the operators declared, from now on, if importing torchvision fails for lack of them."""
    sys.meta_path.insert(0, _Declaring())  # type: ignore[arg-type]


def operators_were_declared() -> bool:
    """Return whether torchvision could be imported only with its operators declared."""
    return bool(_declared)


def declare_operators() -> None:
    """Declare the operators that torchvision's Python looks up and that torch does not have."""
    import torch

    # DEF may stand once a process, and may have been taken; FRAGMENT adds to what is there
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
