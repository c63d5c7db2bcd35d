"""Plans: a folder of ONNX models to time on a device that has no dcsnas, and what times them there.

The folder holds ``plan.json``, the models, ``run.py`` for onnxruntime and ``trtexec.sh`` for
TensorRT. Operators make the table, six networks calibrate it and others, held out, check it.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, computed_field
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest, read_json, write_json, writing
from dcsnas.config.strict import Strict
from dcsnas.latency.allocator import allocator_environment, describe_glibc
from dcsnas.latency.backends.backend import operator_module
from dcsnas.latency.backends.onnx_runtime import OPSET, require_onnx, to_onnx
from dcsnas.latency.check import Drawn, draw_networks
from dcsnas.latency.interpolation import chosen
from dcsnas.latency.profiler import SpaceId
from dcsnas.latency.reference import REFERENCE, REFERENCE_KEY, REFERENCE_SIZE
from dcsnas.latency.samples import Settings
from dcsnas.latency.table import validate_briefly
from dcsnas.latency.whole_networks import PASSES, TOGETHER
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import calibration_choices
from dcsnas.spaces.space import Option, SearchSpace, space_operators

PLAN = "plan.json"
Role = Literal["reference", "operator", "network"]
Report = Callable[[int, int], None]

_HELD_OUT = (24, 12, 6, 2)
"""Networks to check with: the first number that the space has."""
_ONNXRUNTIME = (1, 12)
"""The first onnxruntime that reads the models' operator set."""
_BLOCK_MIB = 256  # a board has less memory than a server
_SEED = 1  # of the held-out networks; calibration draws with 0
_RUNNERS = ("run.py", "trtexec.sh")


class Wanted(Strict):
    """How the models are to be run."""

    threads: PositiveInt
    dtype: Literal["float32"] = "float32"
    batch: PositiveInt
    input: tuple[PositiveInt, PositiveInt]
    """Height and width of a network's images."""


class Allocator(Strict):
    """What makes glibc keep its memory, as ``dcsnas profile`` does."""

    name: str
    environment: dict[str, str]


class PlannedModel(Strict):
    """One model to time."""

    file: str
    sha256: str
    role: Role
    key: str
    """An operator's key in the table; of networks, how they were drawn and a number."""
    input: tuple[PositiveInt, ...]
    """Shape of its input, the batch first."""
    macs: NonNegativeInt
    """Multiply-accumulates for one image."""
    drawn: Literal["calibration", "uniform", "spread"] | None = None
    """What a network is for, and how it was drawn."""
    choice: dict[str, float | str] | None = None
    """A network's option of every decision of the space."""


class Plan(Strict):
    """``plan.json``: what is to be timed, and how."""

    schema_version: Literal[1] = 1
    space: SpaceId
    attention: str | None
    """Kind of attention that was asked for in place of the space's."""
    wanted: Wanted
    settings: Settings
    network_rounds: PositiveInt
    """Samples of each network, over all processes."""
    passes: PositiveInt
    """Processes that sample a network."""
    together: PositiveInt = TOGETHER
    """Networks in one process."""
    seed: NonNegativeInt = _SEED
    """Seed that the held-out networks were drawn with."""
    opset: PositiveInt = OPSET
    """ONNX operator set of the models."""
    onnxruntime: tuple[int, int] = _ONNXRUNTIME
    """The oldest onnxruntime that reads it."""
    allocator: Allocator
    models: tuple[PlannedModel, ...] = Field(min_length=1)

    @computed_field
    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the content of all other fields."""
        return digest(self.model_dump(mode="json", exclude={"digest"}))

    def of_role(self, role: Role) -> list[PlannedModel]:
        """Return the models of one role."""
        return [model for model in self.models if model.role == role]


def plan_settings(*, rounds: int, sparse: bool) -> Settings:
    """Return how long to measure, in blocks that a board has the memory for."""
    return Settings(rounds=rounds, sparse=sparse, block_mib=_BLOCK_MIB)


def write_plan(
    space: SearchSpace,
    folder: Path,
    *,
    attention: str | None,
    wanted: Wanted,
    settings: Settings,
    force: bool = False,
    progress: Report = lambda done, total: None,
) -> Plan:
    """Write what a device needs to measure the operators and networks of ``space`` to ``folder``.

    The folder appears when it is complete. ``progress`` receives the models written and wanted.
    Raises UserError where it exists, unless it holds a plan and ``force`` says to replace it, and
    where the package onnx is missing.
    """
    require_onnx("--plan")
    require_plan_folder(folder, force=force)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
            partial = Path(temporary) / folder.name
            partial.mkdir()
            models = tuple(_write_models(space, partial, wanted, settings, progress))
            plan = Plan(
                space=SpaceId.of(space),
                attention=attention,
                wanted=wanted,
                settings=settings,
                network_rounds=2 * settings.rounds,
                passes=min(PASSES, settings.rounds),
                allocator=_allocator(),
                models=models,
            )
            write_json(partial / PLAN, plan.model_dump(mode="json"))
            for name in _RUNNERS:
                shutil.copyfile(Path(__file__).with_name(name), partial / name)
            if folder.exists():
                os.replace(folder, Path(temporary) / "replaced")
            os.replace(partial, folder)
    return plan


def require_plan_folder(folder: Path, *, force: bool) -> None:
    """Raise UserError where no plan can be written to ``folder``: only a plan is replaced."""
    if not os.path.lexists(folder):
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not (folder / PLAN).is_file():
        raise UserError(
            f"--plan {folder}: exists and is not a plan; give a new folder, or remove it yourself"
        )
    if not force:
        raise UserError(
            f"--plan {folder}: holds a plan already; give another folder, or --force to replace "
            "it with all that is in it"
        )


def read_plan(path: Path) -> Plan:
    """Return the plan in the file ``path``; raises UserError where it is damaged or edited."""
    return parse_plan(read_json(path), path)


def parse_plan(data: dict[str, Any], path: Path) -> Plan:
    """Return a plan that was read from ``path``; raises UserError."""
    stored = data.pop("digest", None)
    plan: Plan = validate_briefly(Plan, data, path)
    if stored != plan.digest:
        raise UserError(f"{path}: digest: the plan was edited; write it again with --plan")
    return plan


def _allocator() -> Allocator:
    environment = allocator_environment()
    return Allocator(name=describe_glibc(environment), environment=environment)


def _write_models(
    space: SearchSpace, folder: Path, wanted: Wanted, settings: Settings, progress: Report
) -> Iterator[PlannedModel]:
    operators = space_operators(space, wanted.input)
    keys = chosen(operators) if settings.sparse else list(operators)
    networks = _networks(space, settings)
    total = len(keys) + len(networks)
    generator = torch.Generator().manual_seed(settings.seed)
    (folder / "operators").mkdir()
    (folder / "networks").mkdir()
    about = {"role": "reference", "key": REFERENCE_KEY, "macs": REFERENCE.cost(REFERENCE_SIZE).macs}
    image = torch.randn(1, 3, *REFERENCE_SIZE, generator=generator)
    yield _write(folder, "reference.onnx", build(REFERENCE), image, about)
    for number, operator in enumerate((operators[key] for key in keys), start=1):
        module, images = operator_module(operator, wanted.batch)
        about = {"role": "operator", "key": operator.key, "macs": operator.cost.macs}
        yield _write(folder, f"operators/{number:04d}.onnx", module, images, about)
        progress(number, total)
    for number, (drawn, choice) in enumerate(networks, start=1):
        network = space.architecture(choice)
        images = torch.randn(wanted.batch, 3, *wanted.input, generator=generator)
        about = {"role": "network", "key": f"{drawn} {number}", "drawn": drawn, "choice": choice,
                 "macs": network.cost(wanted.input).macs}  # fmt: skip
        yield _write(folder, f"networks/{number:04d}.onnx", build(network), images, about)
        progress(len(keys) + number, total)


def _networks(space: SearchSpace, settings: Settings) -> list[tuple[str, dict[str, Option]]]:
    """Return the networks that calibrate and those that check, with how each was drawn."""
    known = calibration_choices(space, settings.calibration_networks, settings.seed)
    held_out: list[Drawn] = []
    for count in _HELD_OUT:
        held_out = draw_networks(space, count, _SEED, known=known)
        if len(held_out) == count:
            break
        held_out = []
    return [*(("calibration", choice) for choice in known), *held_out]


def _write(
    folder: Path, file: str, module: nn.Module, images: Tensor, about: Mapping[str, Any]
) -> PlannedModel:
    content = to_onnx(module.eval(), images)
    (folder / file).write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    return PlannedModel(file=file, sha256=found, input=tuple(images.shape), **about)
