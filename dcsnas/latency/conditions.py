"""Conditions: everything that must agree before a measured time means anything elsewhere."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import ConfigDict, PositiveInt

from dcsnas.config.errors import UserError
from dcsnas.config.strict import Strict

Device = Literal["cpu", "cuda"]
Statistic = Literal["p10", "p25", "p50", "relative"]
DType = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
M = TypeVar("M", bound=Strict)


def _require_what_is_written(schema: dict[str, Any], model: type[Any]) -> None:
    fields = model.model_fields
    absent = {name for name, field in fields.items() if field.exclude_if is not None}
    schema["required"] = [name for name in schema.get("required", ()) if name not in absent]


class Recorded(Strict):
    """Base of what a latency table records: its docstrings and fields make the JSON schema."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
        json_schema_extra=_require_what_is_written,
    )


class Conditions(Recorded):
    """Where and how a time was measured."""

    device: Device
    """Kind of device."""
    device_name: str
    """CPU model with its instruction set, or GPU name."""
    driver: str | None
    """NVIDIA driver; null on a CPU."""
    torch: str | None
    """Version of torch; null where a runtime without torch measured (dcsnas profile --read)."""
    cuda: str | None
    """Versions of CUDA and cuDNN that torch was built for; null on a CPU."""
    backend: str
    """How networks are run: eager = plain calls of the torch modules, channels_last = the same in
    NHWC, compile = torch.compile with Inductor, onnxruntime = exported to ONNX Runtime, cuda =
    plain calls on a GPU, cuda-graph = one replayed CUDA graph; tensorrt = as NVIDIA's
    trtexec runs ONNX models; or the name of another's backend."""
    backend_version: str | None
    """Version of the package that runs the backend; null where torch itself does."""
    threads: PositiveInt
    """Threads within an operator."""
    allocator: str
    """Memory allocator of the host process, with its settings."""
    dtype: DType
    """Type of weights and activations."""
    memory_format: MemoryFormat
    """Layout of weights and activations: contiguous (NCHW) or channels_last (NHWC)."""
    batch: PositiveInt
    """Images at a time."""
    input: tuple[PositiveInt, PositiveInt]
    """Height and width of the images."""
    statistic: Statistic
    """What of the samples predictions use. relative = how long something takes in times of the
    reference network beside it, times what that takes in calm moments; or, as in tables of before,
    a percentile of the samples."""


class Difference(NamedTuple):
    """One field in which two models disagree."""

    field: str
    first: Any
    second: Any


def differences(first: M, second: M) -> list[Difference]:
    """Return the fields that differ between two conditions (or settings), in their order."""
    names = type(first).model_fields
    found = [Difference(name, getattr(first, name), getattr(second, name)) for name in names]
    return [difference for difference in found if difference.first != difference.second]


def refuse_differences(source: Path | str, found: M, here: M, *, advice: str) -> None:
    """Raise UserError that names every field in which ``found`` in ``source`` is not ``here``."""
    if differing := differences(found, here):
        lines = [f"  {d.field}: {d.first!r} in the file, {d.second!r} here" for d in differing]
        raise UserError("\n".join([f"{source}: measured otherwise:", *lines, advice]))
