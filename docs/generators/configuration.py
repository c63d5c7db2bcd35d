"""Every key of every configuration file, from the models that read them."""

import inspect
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from dcsnas.config.ablation import AblateConfig
from dcsnas.config.detection import DetectConfig
from dcsnas.config.search import FORMS, ClassifySearchConfig, ReidSearchConfig, SearchConfig
from dcsnas.config.stages import PretrainConfig, RetrainConfig, TrainConfig
from dcsnas.config.tuning import TuneEtaConfig
from dcsnas.experiments.sweep import SweepConfig
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.space_file import BackboneFile, SpaceFile, SpaceSpec
from generators.models import default_text, describe, keys, meaning


class File(NamedTuple):
    """A kind of file: what it is called, its model, and the one that says most of its keys."""

    title: str
    model: type[BaseModel]
    base: type[BaseModel] | None = None


FILES = (
    File("Every search", SearchConfig),
    File("dcsnas search, task reid", ReidSearchConfig, SearchConfig),
    File("dcsnas search, task classify", ClassifySearchConfig, SearchConfig),
    File("Every training", TrainConfig),
    File("dcsnas retrain", RetrainConfig, TrainConfig),
    File("dcsnas pretrain", PretrainConfig, TrainConfig),
    File("dcsnas tune-eta", TuneEtaConfig, RetrainConfig),
    File("dcsnas ablate", AblateConfig),
    File("dcsnas detect", DetectConfig),
    File("dcsnas experiment", SweepConfig),
    File("Every search space", SpaceSpec),
    File("Search space of rows", SpaceFile, SpaceSpec),
    File("Search space of a backbone", BackboneFile, SpaceSpec),
)
"""The kinds in the order of the page, a base before those that add to it."""


class Section(NamedTuple):
    """A model that lies within files: under which keys, and the model that it adds to."""

    model: type[BaseModel]
    prefixes: tuple[str, ...]
    base: type[BaseModel] | None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def sections() -> list[Section]:
    """Return the models within the files, each once, in the order of their first mention."""
    found: dict[type[BaseModel], Section] = {}
    waiting = [(file.model, "") for file in FILES]
    listed = {file.model for file in FILES}
    while waiting:
        model, prefix = waiting.pop(0)
        for name, field in model.model_fields.items():
            inner = f"{prefix}{name}."
            for one in dict.fromkeys(_models_in(field.annotation)):
                if one in listed:
                    continue
                if one not in found:
                    base = next((m for m in one.__mro__[1:] if m in found), None)
                    found[one] = Section(one, (inner,), base)
                    waiting.append((one, inner))
                elif inner not in (known := found[one].prefixes):
                    found[one] = found[one]._replace(prefixes=(*known, inner))
    chosen = [(one, "objective.") for one in FORMS.values()]
    chosen += [(kind.arguments, f"attention.arguments.{name}.") for name, kind in KINDS.items()]
    for model, prefix in chosen:
        if model.model_fields and model not in found:
            base = next((m for m in model.__mro__[1:] if m in found), None)
            found[model] = Section(model, (prefix,), base)
    return list(found.values())


def undescribed() -> list[str]:
    """Return the keys of which nothing says what they mean.

    A section's class does, a class may name its keys, and a key with one value only names a kind.
    """
    models = [file.model for file in FILES] + [section.model for section in sections()]
    return [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not (
            meaning(model, name)
            or list(_models_in(field.annotation))
            or f"``{name}``" in (model.__doc__ or "")
            or (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
        )
    ]


def page(_: str) -> str:
    """Return the files, and then the sections within them."""
    inner = sections()
    links = {one.model.__name__: f"[{one.model.__name__}](#config-{one.model.__name__})"
             for one in inner}  # fmt: skip
    links |= {one.model.__name__: f"[{one.title}](#config-{one.model.__name__})" for one in FILES}
    lines = ["## Files", ""]
    for file in FILES:
        lines += _described(file.title, file.model, ("",), file.base, links)
    lines += ["## Sections", ""]
    for model, prefixes, base in inner:
        names = ", ".join(prefix.rstrip(".") for prefix in prefixes)
        lines += _described(f"{names} ({model.__name__})", model, prefixes, base, links)
    return "\n".join(lines)


def _described(
    title: str,
    model: type[BaseModel],
    prefixes: tuple[str, ...],
    base: Any,
    links: dict[str, str],
) -> list[str]:
    head = [f"(config-{model.__name__})=", f"### {title}", "", describe(model), ""]
    if base:
        head += [f"The keys of {links[base.__name__]}, and these, which are new or have "
                 "another default:", ""]  # fmt: skip
    kept = [name for name in model.model_fields if not base or _is_new(model, base, name)]
    return [*head, keys(model, links, kept, prefixes=prefixes), ""]


def _is_new(model: type[BaseModel], base: type[BaseModel], name: str) -> bool:
    ours, theirs = model.model_fields[name], base.model_fields.get(name)
    return (
        theirs is None
        or default_text(ours) != default_text(theirs)
        or ours.annotation != theirs.annotation
    )
