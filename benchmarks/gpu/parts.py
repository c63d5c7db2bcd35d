"""Everything that only a GPU can show, most valuable first, in less than nine minutes.

Command: .venv/bin/python benchmarks/gpu/parts.py OUT --data SET

Every part is a command with a time limit of its own; what it prints goes to OUT/PART.log, and what
came of it to OUT/PART.json and OUT/summary.json, as soon as it ends. SET is a Re-ID set for the
part ``training``. With ``--cpu`` all of it runs at tiny sizes without a GPU, where the tests skip
themselves: to see that nothing but the GPU is new to it. The status is 0 where every part is ok.
The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.latency.machine import current_conditions

ROOT = Path(__file__).parents[2]
END, END_OF_FAILED = 300, 4000
"""Characters of a part's output in the summary."""


class Part(NamedTuple):
    """A command of Python's: what it is called with on a GPU and, to try it, on a CPU."""

    name: str
    seconds: int
    """After which it is stopped."""
    command: str
    gpu: str
    cpu: str


PARTS = (
    Part(
        "tests",
        110,
        "-m pytest -q -rfE -m gpu -W default -p no:cacheprovider",
        gpu="{tests}",
        cpu="{tests}",
    ),
    Part(
        "tables",
        165,
        "benchmarks/gpu/tables.py",
        gpu="--backends cuda-graph cuda --batches 1 32 --dtypes float32 bfloat16",
        cpu="--space tiny --rounds 2 --networks 4",
    ),
    Part(
        "steps",
        60,
        "benchmarks/supernet_step.py",
        gpu="--batch 64 --precision bf16-mixed",
        cpu="--quick --no-stock",
    ),
    Part(
        "attention",
        45,
        "benchmarks/attention_cost.py --precision bf16-mixed",
        gpu="--rounds 9",
        cpu="--space tiny --input 32x16 --rounds 2 --threads 1",
    ),
    Part(
        "evaluation",
        45,
        "benchmarks/evaluation.py --scale msmt17",
        gpu="--device cuda --runs 3",
        cpu="--share 0.01 --runs 1",
    ),
    Part(
        "training",
        90,
        "benchmarks/gpu/training.py --precision bf16-mixed {data}",
        gpu="--workers 8",
        cpu="--space tiny --epochs 2 --training 2 --identities 4 --workers 0",
    ),
)


def gpu_tests() -> list[str]:
    """Return the files that hold tests marked ``gpu``: to collect all others takes a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if "mark.gpu" in path.read_text()]


def command_of(part: Part, *, cpu: bool, data: Path | None) -> list[str]:
    """Return the whole command of a part."""
    given = {"{tests}": gpu_tests(), "{data}": ["--data", str(data)] if data else []}
    words = f"{part.command} {part.cpu if cpu else part.gpu}".split()
    return [sys.executable, *(word for each in words for word in given.get(each, [each]))]


def stopped_after(seconds: float, command: Sequence[str], log: Path) -> str:
    """Run ``command``, end all that it started, and return ok, failed or out of time."""
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, places))}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            return "failed" if process.wait(seconds) else "ok"
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def last_json(text: str) -> dict[str, Any] | None:
    """Return the object in the last line that holds one."""
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(line)
    return None


def run(name: str, seconds: float, command: Sequence[str], out: Path) -> dict[str, Any]:
    """Run a part and return what came of it, which is also written to ``out``."""
    log, started = out / f"{name}.log", time.monotonic()
    status = stopped_after(seconds, command, log)
    printed = log.read_text(errors="replace")
    record = {
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
        "limit_s": seconds,
        "command": " ".join(command),
        "result": last_json(printed),
        "end": printed[-END:] if status == "ok" else printed[-END_OF_FAILED:],
    }
    write_json(out / f"{name}.json", record)
    print(f"{name}: {status} after {record['seconds']} s of {seconds}", flush=True)
    return record


def machine(*, cpu: bool) -> dict[str, Any]:
    """Return the device and its software; raises UserError where there is no GPU to run on."""
    here = current_conditions((64, 32), 1, backend="eager" if cpu else "cuda")
    facts = ("device", "device_name", "driver", "torch", "cuda")
    return {**{name: getattr(here, name) for name in facts}, "python": platform.python_version()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and return the exit status."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes, without a GPU")
    parser.add_argument("--data", type=Path, help="Re-ID set, a folder or .tar.gz; default: drawn")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART")
    options = parser.parse_args(arguments)
    data = options.data.resolve() if options.data else None
    out = options.out.resolve()
    try:
        summary: dict[str, Any] = {**machine(cpu=options.cpu), "parts": {}}
    except UserError as error:
        parser.error(f"{error}; or see that the rest works with --cpu")
    out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part.name in options.only:
            command = command_of(part, cpu=options.cpu, data=data)
            summary["parts"][part.name] = run(part.name, part.seconds, command, out)
            write_json(out / "summary.json", summary)
    print(json.dumps(summary))
    return int(any(record["status"] != "ok" for record in summary["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
