"""Python names for the site: those of ``import dcsnas as dn``, and what extensions use."""

import inspect
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

import dcsnas

EXTENSIONS = (
    "dcsnas.spaces.backbones",
    "dcsnas.spaces.attention",
    "dcsnas.nn.attention.selector",
    "dcsnas.tasks.task",
    "dcsnas.latency.backends.backend",
    "dcsnas.search.cost_terms",
    "dcsnas.losses.bound",
    "dcsnas.losses.metric",
    "dcsnas.latency.expectation",
    "dcsnas.evaluation.ranking",
)
"""Modules that extensions import, or that papers' formulas are found in."""


def page(what: str) -> str:
    """Return the names of the façade, or the modules for extensions."""
    if what == "names":
        parts = [_name(name) for name in dcsnas.__all__]
    else:
        parts = [_module(name) for name in EXTENSIONS]
    return "\n".join(parts)


def _name(name: str) -> str:
    home = f"dcsnas.{dcsnas._HOMES[name]}"
    found = getattr(dcsnas, name)
    if not inspect.isclass(found):
        return _rst(f"dn.{name}", [f".. autofunction:: {home}"])
    options = [f".. autoclass:: {home}", "   :members:", "   :inherited-members: BaseModel, Strict"]
    if issubclass(found, BaseModel):  # its fields are those of a file, which has a page
        fields = ", ".join(["model_config", *found.model_fields])
        options = [f"{options[0]}(**keys)", *options[1:], f"   :exclude-members: {fields}"]
    elif issubclass(found, ValueError):
        options = options[:1]
    elif name == "Supernet":  # of a torch module, what is new
        options = [options[0], "   :members: forward"]
    return _rst(f"dn.{name}", options)


def _module(name: str) -> str:
    return _rst(name, [f".. automodule:: {name}", "   :members:"])


def _rst(title: str, lines: list[str]) -> str:
    return "\n".join([f"### {title}", "", "```{eval-rst}", *lines, "```", ""])


def setup(app: Sphinx) -> dict[str, bool]:
    """Keep napoleon from taking what stands before a property's colon for its type."""
    app.setup_extension("sphinx.ext.autodoc")
    kept: dict[str, list[str]] = {}

    def keep(_app: Any, what: str, name: str, _found: Any, _options: Any, text: list[str]) -> None:
        if what in ("property", "attribute", "data"):
            kept[name] = list(text)

    def restore(_app: Any, _what: str, name: str, *rest: Any) -> None:
        rest[-1][:] = kept.pop(name, rest[-1])

    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
