"""Do latency tables predict whole networks? Profile here, then check in a fresh process.

Command: .venv/bin/python benchmarks/latency_prediction.py --space fbnetv2 --backend eager

Both steps are the commands that users run: ``dcsnas profile`` measures the operators and calibrates
on six networks, ``dcsnas profile-check`` times held-out networks. ``--repeat`` checks once more:
how the second measurement ranks the networks of the first is the most that a table can be asked
for. The compile backend takes a second or two for each operator, so its table is sparse. With
``--folder`` what was measured stays there and is not measured again. The last line is one JSON
object.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from outcome import conclude

from dcsnas.config.files import read_json

QUICK = ["--sparse", "--rounds", "8"], ["--networks", "8", "--rounds", "8"]


def dcsnas(*arguments: str, made: Path) -> float | None:
    """Run a command that makes a file, and return the seconds; None where the file is there."""
    if made.exists():
        return None
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "dcsnas", *arguments], check=True)
    return round(time.monotonic() - started, 1)


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Return how well the table predicts, with the conditions."""
    table, report = folder / "table.json", folder / "check.json"
    profile = ["--backend", options.backend, "--out", str(table)]
    if options.attention:
        profile += ["--attention", options.attention]
    if options.sparse or options.backend == "compile":
        profile += ["--sparse"]
    check = ["--networks", str(options.networks)]
    if options.quick:
        profile, check = [*profile, *QUICK[0]], [*check, *QUICK[1]]
    profile_s = dcsnas("profile", options.space, *profile, made=table)
    check_s = dcsnas("profile-check", str(table), *check, "--out", str(report), made=report)
    seconds = {"profile_s": profile_s, "check_s": check_s}
    found = summarise(read_json(table), read_json(report)) | seconds
    if options.repeat:
        again = folder / "again.json"
        dcsnas("profile-check", str(table), *check, "--out", str(again), made=again)
        found |= repeated(read_json(report)["networks"], read_json(again)["networks"])
    return found


def repeated(first: list[dict], second: list[dict]) -> dict:
    """Return how the second measurement of the same networks agrees with the first."""
    from dcsnas.latency.accuracy import accuracy

    choices = [[network["choice"] for network in networks] for networks in (first, second)]
    assert choices[0] == choices[1]
    times = [[network["measured_ms"] for network in networks] for networks in (first, second)]
    uniform = sum(network["kind"] == "uniform" for network in first)
    everywhere, alike = (accuracy(*(part[:end] for part in times)) for end in (None, uniform))
    return {
        "repeat_mape_percent": everywhere.mape_percent,
        "uniform_repeat_mape_percent": alike.mape_percent,
        "uniform_repeat_kendall_tau": alike.kendall_tau,
    }


def summarise(table: dict, report: dict) -> dict:
    """Return the numbers of a table and of its check as one flat object."""
    times = [n["measured_ms"] for n in report["networks"] if n["kind"] == "uniform"]
    everywhere, uniform = report["all"]["table"], report["uniform"]["table"]
    macs, floor = report["all"]["macs_only"], report["all"]["noise_floor"]
    names = {"table": "", "macs_only": "macs_", "noise_floor": "floor_"}
    halves = {
        f"{half}_{name}kendall_tau": report[half][field]["kendall_tau"]
        for half in ("uniform", "spread")
        for field, name in names.items()
    }
    return {
        "backend": table["conditions"]["backend"],
        "space": table["space"]["name"],
        "attention": table["space"]["attention"]["kind"],
        "networks": len(report["networks"]),
        "mape_percent": everywhere["mape_percent"],
        "bias_percent": everywhere["bias_percent"],
        "worst_percent": everywhere["worst_percent"],
        "kendall_tau": everywhere["kendall_tau"],
        "uniform_mape_percent": uniform["mape_percent"],
        "uniform_spread_percent": 100 * statistics.stdev(times) / statistics.mean(times),
        **halves,
        "uncalibrated_bias_percent": report["all"]["uncalibrated"]["bias_percent"],
        "noise_floor_percent": floor["mape_percent"],
        "noise_floor_kendall_tau": floor["kendall_tau"],
        "macs_only_mape_percent": macs["mape_percent"],
        "macs_only_kendall_tau": macs["kendall_tau"],
        "entries": len(table["entries"]),
        "measured_entries": sum(e["source"] == "measured" for e in table["entries"].values()),
        "sparse": table["settings"]["sparse"],
        "scale": table["calibration"]["scale"],
        "weights_ms": table["calibration"].get("weights_ms", 0.0),
        "offset_ms": table["calibration"]["offset_ms"],
        "loo_mape_percent": table["calibration"]["loo_mape_percent"],
        "table_verdict": table["verdict"],
        "verdict": report["verdict"],
        "reference_change_percent": report["reference_change_percent"],
        "conditions": report["conditions"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--attention", choices=["none", "sa", "dcs"], help="default: the space's")
    parser.add_argument("--sparse", action="store_true", help="measure about 5 %% of the operators")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--quick", action="store_true", help="a sparse table, 8 networks")
    parser.add_argument("--repeat", action="store_true", help="measure the networks twice")
    parser.add_argument("--folder", type=Path, help="keep what was measured, and go on from it")
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(options, folder)
    conclude(result, options.out)


if __name__ == "__main__":
    main()
