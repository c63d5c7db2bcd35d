"""torchvision's parts of a detector, with our operators where its compiled ones do not load."""

import importlib
from functools import cache
from typing import Any

from dcsnas.config.errors import UserError
from dcsnas.detection.operators import nms, roi_align

INSTALL = "pip install --no-deps torchvision==0.28.0 && pip install pycocotools"
"""Without dependencies: torchvision may put a CUDA build of torch in the place of another."""

PATCHED = {
    "torchvision.ops": ("nms", "roi_align"),
    "torchvision.ops.boxes": ("nms",),
}
"""Where torchvision's own parts look the operators up."""


@cache
def import_torchvision() -> Any:
    """Return torchvision with its detection models; raises UserError where it is not there.

    Where its compiled operators are missing, ours stand in for the two that detection needs.
    """
    try:
        torchvision = importlib.import_module("torchvision")
        importlib.import_module("torchvision.models.detection")
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"detection needs torchvision, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
    if not importlib.import_module("torchvision.extension")._has_ops():
        own = {"nms": nms, "roi_align": roi_align}
        for name, operators in PATCHED.items():
            module = importlib.import_module(name)
            for operator in operators:
                setattr(module, operator, own[operator])
    return torchvision


@cache
def import_pycocotools() -> tuple[Any, Any, Any]:
    """Return pycocotools' modules coco, cocoeval and mask; raises UserError without them."""
    try:
        names = ("coco", "cocoeval", "mask")
        modules = [importlib.import_module(f"pycocotools.{name}") for name in names]
    except ImportError as error:
        raise UserError(
            f"detection needs pycocotools, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
    coco, cocoeval, mask = modules
    return coco, cocoeval, mask
