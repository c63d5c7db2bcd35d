"""Latency-aware differentiable architecture search around FBNetV2 with DCS-Attention, on NNI 3.0.

A session in Python or a notebook starts with ``import dcsnas as dn``; ``docs/python.md``. Data
flows one way, and so do imports (checked by ``tests/test_layers.py``)::

    config -> spaces -> nn -> zoo -> losses -> latency -> data -> evaluation -> deployment -> tasks
           -> training -> search -> plots -> experiments -> doctor -> reports -> demo -> api
           -> cli

Nothing heavy is imported before a name is used, so that ``dcsnas --help`` answers at once.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dcsnas.torchvision_compat import mend_torchvision

if TYPE_CHECKING:
    from dcsnas.api.model import Model, TrainedRun, load_weights
    from dcsnas.api.stages import (
        SearchRun,
        profile,
        render_people,
        sample_at,
        search,
        train,
    )
    from dcsnas.config.errors import UserError
    from dcsnas.latency.table import LatencyTable, load_table
    from dcsnas.nn.build import build
    from dcsnas.search.fbnetv2 import GivenSupernet as Supernet
    from dcsnas.spaces.architecture import ArchitectureFile, load_architecture, save_architecture
    from dcsnas.spaces.space import SearchSpace, load_space

__version__ = "0.2.0"

__all__ = [
    "ArchitectureFile",
    "LatencyTable",
    "Model",
    "SearchRun",
    "SearchSpace",
    "Supernet",
    "TrainedRun",
    "UserError",
    "build",
    "load_architecture",
    "load_space",
    "load_table",
    "load_weights",
    "profile",
    "render_people",
    "sample_at",
    "save_architecture",
    "search",
    "train",
]

_HOMES = {
    "ArchitectureFile": "spaces.architecture.ArchitectureFile",
    "LatencyTable": "latency.table.LatencyTable",
    "Model": "api.model.Model",
    "SearchRun": "api.stages.SearchRun",
    "SearchSpace": "spaces.space.SearchSpace",
    "Supernet": "search.fbnetv2.GivenSupernet",
    "TrainedRun": "api.model.TrainedRun",
    "UserError": "config.errors.UserError",
    "build": "nn.build.build",
    "load_architecture": "spaces.architecture.load_architecture",
    "load_space": "spaces.space.load_space",
    "load_table": "latency.table.load_table",
    "load_weights": "api.model.load_weights",
    "profile": "api.stages.profile",
    "render_people": "api.stages.render_people",
    "sample_at": "api.stages.sample_at",
    "save_architecture": "spaces.architecture.save_architecture",
    "search": "api.stages.search",
    "train": "api.stages.train",
}


def __getattr__(name: str) -> Any:
    """Return a name of the façade, importing what it takes."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dcsnas' has no attribute '{name}'")
    import_module("dcsnas.config.environment").quiet_libraries()
    module, _, attribute = _HOMES[name].rpartition(".")
    found = getattr(import_module(f"dcsnas.{module}"), attribute)
    return globals().setdefault(name, found)  # of ``search`` the package, which is there by now


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


class _Search(ModuleType):
    """The package ``dcsnas.search``, which can be called: a function of the façade has its name."""

    @property
    def __wrapped__(self) -> Any:
        """Return that function, whose signature is shown."""
        return import_module("dcsnas.api.stages").search

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Search weights and architecture jointly, as ``dcsnas.api.stages.search`` says."""
        return self.__wrapped__(*args, **kwargs)


class _Facade(ModuleType):
    """This package, in which Python sets the package ``dcsnas.search`` when it is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "search" and isinstance(value, ModuleType):
            value.__class__ = _Search
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade

mend_torchvision()
