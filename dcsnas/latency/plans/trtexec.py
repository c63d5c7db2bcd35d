"""Reading what TensorRT's ``trtexec`` writes of a plan's models.

``trtexec.sh`` in the plan's folder times them. ``--exportTimes`` writes a list with an object for
each inference, whose ``computeMs`` is the time of its kernels (exportJSONTrace in
samples/common/sampleReporting.cpp of github.com/NVIDIA/TensorRT); the device, the version and the
type stand in the log alone.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from dcsnas.config.bounds import MOST_JSON
from dcsnas.config.errors import UserError
from dcsnas.config.files import parse_json, read_text
from dcsnas.latency.plans.plan import PLAN, Plan, PlannedModel, read_plan
from dcsnas.latency.plans.results import Results, Runtime, refuse_implausible, refuse_incomplete

_FACTS = {
    "device_name": r"Selected Device: (.+)",
    "backend_version": r"TensorRT version: (\S+)",
}
_PRECISION = r"Precision: (\S+)"


def holds_trtexec(folder: Path) -> bool:
    """Return whether ``folder`` is what trtexec.sh wrote."""
    return (folder / PLAN).is_file() and (folder / "operators").is_dir()


def read_trtexec(folder: Path) -> Results:
    """Return the times in a folder that ``trtexec.sh`` wrote, as results of its plan.

    Raises UserError where files are missing or damaged, where they were measured in another type,
    and where times cannot be milliseconds.
    """
    plan = read_plan(folder / PLAN)
    logs = [_log(folder, m, 1) for m in plan.models if m.role != "reference"]
    facts = {name: _fact(logs[0], pattern) for name, pattern in _FACTS.items()}
    for log in logs:
        if (precision := _fact(log, _PRECISION)) != "FP32":
            raise UserError(
                f"{log}: measured in {precision}, the plan is of {plan.wanted.dtype}: run "
                "trtexec.sh without --fp16 and the like, in a new copy of the plan"
            )
    readings = {m.file: _processes(folder, m) for m in plan.models if m.role != "reference"}
    results = Results(
        schema_version=1,
        unit="ms",
        plan=plan,
        runtime=Runtime(
            device="cuda",
            system="unknown",
            backend="tensorrt",
            provider="TensorRT",
            threads=1,
            allocator="unknown",
            affinity=None,
            **facts,
        ),
        started="unknown",
        ended=None,
        reference=_reference(folder, plan),
        readings=readings,
        failed={},
    )
    refuse_incomplete(folder, results)
    refuse_implausible(folder, results)
    return results


def _processes(folder: Path, model: PlannedModel) -> Any:
    """Return [ms, reference ms] of each inference, by process."""
    found, number = [], 1
    while (path := _path(folder, model, f"{number}.json")).exists():
        beside = _reference_ms(folder, model, number)
        found.append([(ms, beside) for ms in _times(path)])
        number += 1
    return found


def _reference_ms(folder: Path, model: PlannedModel, number: int) -> float:
    return float(np.median(_times(_path(folder, model, f"{number}.reference.json"))))


def _reference(folder: Path, plan: Plan) -> Any:
    """Return the reference's time before each operator."""
    return [_reference_ms(folder, model, 1) for model in plan.of_role("operator")]


def _path(folder: Path, model: PlannedModel, ending: str) -> Path:
    return folder / f"{model.file.removesuffix('.onnx')}.{ending}"


def _log(folder: Path, model: PlannedModel, number: int) -> Path:
    return _path(folder, model, f"{number}.log")


def _times(path: Path) -> list[float]:
    """Return the milliseconds of each inference in a file of ``--exportTimes``."""
    text = read_text(path, MOST_JSON)
    try:
        times = [float(one["computeMs"]) for one in parse_json(text)]
    except (ValueError, KeyError, TypeError, OverflowError):
        times = []
    if not times or min(times) <= 0:
        raise UserError(
            f"{path}: not the times that trtexec --exportTimes writes (truncated?); delete it, run "
            "trtexec.sh again, and copy the folder again"
        )
    return times


def _fact(log: Path, pattern: str) -> str:
    found = re.search(pattern, read_text(log))
    if not found:
        what = pattern.partition(":")[0]
        raise UserError(f"{log}: no line '{what}: ...': expected the log of trtexec")
    return found[1].strip()
