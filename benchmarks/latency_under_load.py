"""Do latency tables hold on a busy machine? Profile under load, compare with networks in quiet.

Command: .venv/bin/python benchmarks/latency_under_load.py --load steady

A table is made and networks are measured while nothing else runs. Then the load starts, a second
table is made and the same networks are measured beside it. ``mape_percent`` is the second table's
error against the quiet times, relative to the reference; ``clock_mape_percent`` what the same
samples give by the clock, as before there was a reference; ``quiet_mape_percent`` the first
table's error, ``loaded_mape_percent`` the second's against the networks under load. Loads:
``none``; ``one``, a busy loop; ``steady``, two busy loops and one process that copies memory;
``waves``, the same for four seconds out of every eight. With ``--folder`` what was measured stays
there and is not measured again: a quiet machine is needed with ``--calm-only`` alone, and several
loads share it. The last line is one JSON object.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outcome import conclude

from dcsnas.config.environment import quiet_libraries
from dcsnas.latency.allocator import reexec_with_allocator

WAVE_S = 4.0
COPIED_MIB = 256


def spin(waves: bool) -> None:
    """Keep a processor busy, in ``waves`` half of the time."""
    while True:
        end = time.monotonic() + WAVE_S
        while time.monotonic() < end:
            pass
        if waves:
            time.sleep(WAVE_S)


def copy(waves: bool) -> None:
    """Keep the memory busy, in ``waves`` half of the time."""
    import numpy as np

    source = np.ones(COPIED_MIB * 2**20 // 8)
    target = np.empty_like(source)
    while True:
        end = time.monotonic() + WAVE_S
        while time.monotonic() < end:
            np.copyto(target, source)
        if waves:
            time.sleep(WAVE_S)


LOADS: dict[str, tuple[Sequence[Callable[[bool], None]], bool]] = {
    "none": ((), False),
    "one": ((spin,), False),
    "steady": ((spin, spin, copy), False),
    "waves": ((spin, spin, copy), True),
}


@contextmanager
def loaded(name: str) -> Iterator[None]:
    """Run the load called ``name`` beside the block."""
    functions, waves = LOADS[name]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=f, args=(waves,), daemon=True) for f in functions]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return how a table made under load predicts what networks take in quiet."""
    from kept import measure_once

    from dcsnas.latency.check import held_out
    from dcsnas.latency.machine import current_conditions
    from dcsnas.latency.profile import profile_space
    from dcsnas.latency.samples import Settings
    from dcsnas.spaces.space import load_space

    space = load_space(options.space, options.attention)
    conditions = current_conditions(space.size, 1, backend=options.backend)
    profiling = Settings(sparse=not options.complete, rounds=10 if options.quick else 20)
    checking = Settings(rounds=12 if options.quick else 40, seed=1)
    given = {"conditions": conditions, "settings": profiling}
    calm_table = profile_space(space, folder / "calm.json", **given)
    networks = [space.architecture(c) for _, c in held_out(calm_table, options.networks, 1)]
    quiet = measure_once(folder / "calm-networks.json", networks, conditions, checking)
    if options.calm_only:
        return {"calm_table": str(calm_table.file.verdict), "networks": str(quiet.verdict)}
    load, under_load = options.load, None
    with loaded(load):
        table = profile_space(space, folder / f"{load}.json", **given)
        if not options.table_only:
            place = folder / f"{load}-networks.json"
            under_load = measure_once(place, networks, conditions, checking)
    verdicts = {"table": table.file.verdict, "calm_table": calm_table.file.verdict}
    verdicts |= {"quiet_networks": quiet.verdict}
    verdicts |= {"networks": under_load.verdict} if under_load else {}
    return {
        "load": load,
        "verdict": str(verdicts["table"]).partition(":")[0],
        **scores(table, networks, quiet),
        **(scores_under_load(table, networks, under_load) if under_load else {}),
        "quiet_mape_percent": scores(calm_table, networks, quiet)["mape_percent"],
        "verdicts": {name: str(verdict) for name, verdict in verdicts.items()},
        "space": space.name,
        "attention": space.attention,
        "networks": len(networks),
        "conditions": conditions.model_dump(mode="json"),
    }


def predicted_and_measured(table: Any, networks: Sequence[Any], measured: Any) -> tuple[Any, Any]:
    """Return what ``table`` predicts, and what was measured at the speed that it had then, ms."""
    from dcsnas.latency.table import predict_ms

    predicted = [predict_ms(table, one.layers, table.file.conditions.input) for one in networks]
    return predicted, [t.value_ms("relative", table.reference_ms) for t in measured.timings]


def scores(table: Any, networks: Sequence[Any], quiet: Any) -> dict[str, Any]:
    """Return the accuracy of the table's relative times, and of those that the clock said."""
    from dcsnas.latency.accuracy import accuracy, noise_floor

    found = accuracy(*predicted_and_measured(table, networks, quiet))
    clock = [timing.value_ms("p25", table.reference_ms) for timing in quiet.timings]
    clocked = by_the_clock(table, networks, clock)
    return {
        "mape_percent": found.mape_percent,
        "worst_percent": found.worst_percent,
        "bias_percent": found.bias_percent,
        "kendall_tau": found.kendall_tau,
        "noise_floor_percent": noise_floor(quiet.networks, "relative").mape_percent,
        "clock_noise_floor_percent": noise_floor(quiet.networks, "p25").mape_percent,
        "clock_mape_percent": clocked.mape_percent,
        "clock_kendall_tau": clocked.kendall_tau,
        "reference_change_percent": 100 * (table.reference_ms / quiet.reference_ms - 1),
    }


def scores_under_load(table: Any, networks: Sequence[Any], under_load: Any) -> dict[str, Any]:
    """Return the accuracy of the table on networks that were measured beside the load as well."""
    from dcsnas.latency.accuracy import accuracy, noise_floor

    found = accuracy(*predicted_and_measured(table, networks, under_load))
    return {
        "loaded_mape_percent": found.mape_percent,
        "loaded_worst_percent": found.worst_percent,
        "loaded_kendall_tau": found.kendall_tau,
        "loaded_noise_floor_percent": noise_floor(under_load.networks, "relative").mape_percent,
    }


def by_the_clock(table: Any, networks: Sequence[Any], measured_ms: Sequence[float]) -> Any:
    """Return how the same samples predict as their 25th percentiles in milliseconds.

    As before there was a reference: entries and calibration are what the clock said. The factor of
    the calibration is the table's own, which its networks were measured for as well.
    """
    from dcsnas.latency.accuracy import accuracy
    from dcsnas.latency.interpolation import interpolate
    from dcsnas.latency.table import Entry
    from dcsnas.spaces.network import walk
    from dcsnas.spaces.space import space_operators

    file = table.file
    operators = space_operators(table.space, file.conditions.input)
    entries = {key: e for key, e in file.entries.items() if isinstance(e, Entry)}
    times = {key: entry.p25 for key, entry in entries.items()}
    times |= {key: e.ms for key, e in interpolate(operators, entries, "p25", 1.0).items()}
    found, predicted = file.calibration, []
    for one in networks:
        runs = [o for o in walk(one.layers, file.conditions.input) if o.runs]
        weights_ms = found.weights_ms * sum(o.cost.params for o in runs) / 1e6
        total = found.scale * sum(times[o.key] for o in runs)
        predicted.append(total + weights_ms + found.offset_ms)
    return accuracy(predicted, measured_ms)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--attention", default="none", choices=["none", "sa", "dcs"])
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--load", choices=list(LOADS), default="steady")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--complete", action="store_true", help="tables that are not sparse")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--folder", type=Path, help="keep what was measured, and go on from it")
    parser.add_argument("--calm-only", action="store_true", help="end before the load; --folder")
    parser.add_argument("--table-only", action="store_true", help="no networks under load")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    if options.calm_only and not options.folder:
        parser.error("--calm-only without --folder leaves nothing: give a folder")
    quiet_libraries()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(options, folder)
    conclude(result, options.out)


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
