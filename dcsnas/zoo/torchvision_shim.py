"""Importing timm where torchvision is missing or was built for another torch.

timm looks names of torchvision up while it is imported, to define image transforms and data sets;
its networks use none of them. Next to a CPU torch there is often no torchvision to be had.

- A torchvision that works is used as it is, and so is one whose compiled part does not load
  (``dcsnas.torchvision_compat``).
- Where there is none, stand-ins answer timm's look-ups, and are gone once timm is imported, so that
  nobody else takes them for torchvision.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from dcsnas.config.errors import UserError

INSTALL = "pip install --no-deps timm==1.0.31 && pip install huggingface_hub"
"""Without dependencies: torchvision, one of timm's, may put a CUDA torch in place of another."""

STAND_INS = (
    "torchvision",
    "torchvision.datasets",
    "torchvision.ops",
    "torchvision.ops.misc",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)


@cache
def import_timm() -> ModuleType:
    """Return the package timm; raises UserError where it, or what it needs, is not installed."""
    if find_spec("timm") is None:
        raise UserError(f"timm is not installed, which most backbones come from; run: {INSTALL}")
    try:
        if torchvision_imports():
            return importlib.import_module("timm")
        with _standing_in():
            return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"timm cannot be imported ({error}); run: {INSTALL}") from error


def torchvision_imports() -> bool:
    """Return whether there is a torchvision that can be imported."""
    if find_spec("torchvision") is None:
        return False
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError):
        return False
    return True


class _StandIn(ModuleType):
    """A module any of whose names is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        made = _Interpolation if name == "InterpolationMode" else type(name, (), {})
        setattr(self, name, made)
        return made


class _Interpolation(Enum):
    """The members that timm tells apart."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


@contextmanager
def _standing_in() -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in STAND_INS}
    for name in STAND_INS:
        sys.modules[name] = module = _StandIn(name)
        module.__path__ = []  # as a package has
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
