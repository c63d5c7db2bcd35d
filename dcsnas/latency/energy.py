"""Energy of a table's operators, where the device has a counter of it.

Counters are of a whole package or GPU and move in steps of milliseconds, so an operator runs again
and again for long enough, and what everything else on the device draws meanwhile is in the number.
Measured when the times are done, so that it changes none of them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from dcsnas.latency.backends.backend import is_out_of_memory
from dcsnas.latency.profiler import Prepare
from dcsnas.latency.table import Entry, LatencyTable, save_table
from dcsnas.nn.distributed import cpu_threads
from dcsnas.spaces.network import Operator
from dcsnas.spaces.space import space_operators

POWERCAP = Path("/sys/class/powercap")
SECONDS = 0.5
"""How long an operator runs: 500 steps of RAPL's counter, 5 to 25 of NVML's."""


class Meter(Protocol):
    """A counter of the energy that a device has used."""

    name: str
    """What it is, for the table."""

    def joules(self) -> float:
        """Return the energy since some moment in the past, which stays the same."""
        ...


class NoMeterError(Exception):
    """The device has no counter that can be read; the message says why, in a line."""


@dataclass
class Rapl:
    """The counters of all processor packages, which start anew at their largest value."""

    root: Path = POWERCAP
    name: str = "rapl"
    _last: dict[Path, int] = field(default_factory=dict)
    _total_uj: int = 0

    def joules(self) -> float:
        """Return the energy since the first call."""
        for package in self.packages():
            now = int((package / "energy_uj").read_text())
            step = now - self._last.get(package, now)
            if step < 0:
                step += int((package / "max_energy_range_uj").read_text())
            self._total_uj += step
            self._last[package] = now
        return self._total_uj / 1e6

    def packages(self) -> list[Path]:
        """Return the folders of the packages: ``intel-rapl:0``, and not those of their parts."""
        return [p for p in sorted(self.root.glob("intel-rapl:*")) if p.name.count(":") == 1]


@dataclass
class Nvml:
    """The counter of one GPU of NVIDIA."""

    library: Any
    index: int = 0
    name: str = "nvml"

    def joules(self) -> float:
        """Return the energy since the driver was loaded."""
        handle = self.library.nvmlDeviceGetHandleByIndex(self.index)
        return self.library.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def find_meter(device: str, *, root: Path = POWERCAP) -> Meter:
    """Return the counter of ``device``, cpu or cuda; raises NoMeterError with the reason."""
    if device == "cuda":
        return _nvml()
    meter = Rapl(root)
    if not meter.packages():
        raise NoMeterError(
            f"no RAPL counter in {root}: a virtual machine, or a processor without one"
        )
    try:
        meter.joules()
    except (OSError, ValueError) as error:
        raise NoMeterError(
            f"the RAPL counter in {root} cannot be read ({error}); an administrator can allow it "
            "(chmod a+r on energy_uj)"
        ) from None
    return meter


def _nvml() -> Meter:
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        raise NoMeterError("pynvml is not installed (pip install nvidia-ml-py)") from None
    try:
        pynvml.nvmlInit()
        meter = Nvml(pynvml)
        meter.joules()
    except pynvml.NVMLError as error:
        raise NoMeterError(f"the GPU's driver gives no energy ({error})") from None
    return meter


def energy_mj(
    run: Callable[[], object],
    meter: Meter,
    *,
    synchronize: Callable[[], object],
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the millijoules of one ``run``, the mean over ``seconds`` of them after a first."""
    run()
    synchronize()
    runs, start, before = 0, clock(), meter.joules()
    while clock() - start < seconds:
        run()
        synchronize()
        runs += 1
    return 1e3 * (meter.joules() - before) / runs


def with_energy(
    table: LatencyTable,
    prepare: Prepare,
    meter: Meter,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    measure: Callable[..., float] = energy_mj,
) -> LatencyTable:
    """Return ``table`` with the energy of its measured operators, and write it to its file.

    Entries that have it are left alone, so that a run that was stopped is continued: the file is
    written after every operator. Interpolated entries get none, nor what is out of memory here.
    """
    conditions = table.file.conditions
    operators = space_operators(table.space, conditions.input)
    entries = dict(table.file.entries)
    waiting = _without(entries, operators)
    wait = torch.cuda.synchronize if conditions.device == "cuda" else _nothing
    for done, (key, operator) in enumerate(waiting.items(), start=1):
        entry = entries[key]
        assert isinstance(entry, Entry)
        try:
            with cpu_threads(conditions.threads):
                found = measure(prepare(operator, conditions).run, meter, synchronize=wait)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        entries[key] = entry.model_copy(update={"energy_mj": found})
        file = table.file.model_copy(update={"entries": dict(entries), "energy_meter": meter.name})
        table = LatencyTable(file, table.source)
        save_table(Path(table.source), file)
        progress(done, len(waiting))
    return table


def _nothing() -> None:
    """Wait for nothing: a CPU has done what was called."""


def _without(entries: Mapping[str, Any], operators: Mapping[str, Operator]) -> dict[str, Operator]:
    """Return the measured operators that have no energy."""
    measured = {key: one for key, one in entries.items() if isinstance(one, Entry)}
    return {key: operators[key] for key, one in measured.items() if one.energy_mj is None}
