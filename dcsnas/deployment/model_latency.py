"""What ONNX models take here, in one run: sampled in turns, as whole networks are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dcsnas.latency.backends.backend import Workload
from dcsnas.latency.backends.onnx_runtime import INPUT, ONNX_RUNTIME, onnx_session
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.reference import prepare_reference
from dcsnas.latency.samples import Readings, Settings
from dcsnas.latency.whole_networks import Measured, in_fresh_process, sample_workloads
from dcsnas.spaces.layers import Size

PROCESSES = 4
SETTINGS = Settings(rounds=10, min_sample_ms=5)


@dataclass(frozen=True)
class Times:
    """Milliseconds of each model for one batch, and under which conditions they hold."""

    ms: list[float]
    record: dict[str, Any]


def measure_models(
    models: Sequence[Path],
    size: Size,
    *,
    batch: int = 1,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Times:
    """Return what ``models`` take, from rounds in which each is sampled beside a reference.

    They are sampled in several processes, as one is off by 1 to 4 %. Images are uint8 of ``size`` =
    (height, width).
    """
    conditions = current_conditions(size, batch, backend=ONNX_RUNTIME.name, threads=threads)
    measured = Measured([[] for _ in models], [])
    for done in range(PROCESSES):
        readings, reference = in_fresh_process(_sample, list(models), conditions, SETTINGS)
        for networks, one in zip(measured.networks, readings, strict=True):
            networks.append(one)
        measured.reference.append(reference)
        progress(done + 1, PROCESSES)
    statistic, reference_ms = conditions.statistic, measured.reference_ms
    return Times(
        [timing.value_ms(statistic, reference_ms) for timing in measured.timings],
        {
            "reference_ms": reference_ms,
            "verdict": measured.verdict.model_dump(mode="json"),
            "conditions": conditions.model_dump(mode="json"),
        },
    )


def _sample(
    models: Sequence[Path], conditions: Conditions, settings: Settings
) -> tuple[list[Readings], list[float]]:
    """Return the readings of each model, and the reference's in ms, in this process."""
    shape = (conditions.batch, 3, *conditions.input)
    images = np.random.default_rng(settings.seed).integers(0, 256, shape, dtype=np.uint8)
    make = [partial(_workload, model, images, conditions.threads) for model in models]
    reference = partial(prepare_reference, conditions)
    return sample_workloads(make, reference, conditions, settings=settings)


def _workload(model: Path, images: np.ndarray, threads: int) -> Workload:
    content = model.read_bytes()
    run = partial(onnx_session(content, threads).run, None, {INPUT: images})
    return Workload(run, len(content) + images.nbytes)
