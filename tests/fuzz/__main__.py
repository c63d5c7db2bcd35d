"""``python -m fuzz``: hostile files for every reader, by atheris, which goes by coverage.

Command: PYTHONPATH=tests .venv/bin/python -m fuzz --cases 100000 --found DIR

A case is a file that was made of a valid one of some reader, by exchanging values
(``mutations.py``) or bytes. It is right where it is read or refused with a UserError within 2
s and 512 MB of memory, as the kernel measures its peak (VmHWM, set back before each case); what
takes longer is read twice more, since other programs may have had the processor. The last line is
one JSON object: ``cases``, ``tracebacks`` (different places at which something else was raised),
``slow`` (cases that took longer or more memory). The exit code is 1 where one of the two is not 0.
Files of what was found are written to ``--found``. ``--out`` keeps a record with its conditions;
one that is there goes on until it has as many cases.
"""

import argparse
import json
import logging
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conditions import conditions

MOST_S, MOST_MB = 2.0, 512
TRIES = 3
ADDRESS_SPACE = 6 * 2**30
"""Of a process of cases, so that a bomb fails rather than the machine."""
LONGEST = 200_000
"""Bytes of a file."""
REPORT = "report.json"
EVERY = 50
"""Cases between two reports of a process."""


def main() -> None:
    """Run cases in processes of their own until there are as many as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=4000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="these readers alone")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-found")
    parser.add_argument("--seconds", type=int, default=0, help="at most; 0: without end")
    parser.add_argument(
        "--out", type=Path, help="write a record there, or go on with the one there"
    )
    parser.add_argument("--plain", action="store_true", help="at random, without atheris")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.found.mkdir(parents=True, exist_ok=True)
    if given.here:
        run = plain if given.plain else fuzz
        return run(given.cases, given.seed, given.found.resolve(), given.only, given.seconds)

    until = time.monotonic() + given.seconds if given.seconds else math.inf
    total: dict[str, Any] = {"cases": 0, "tracebacks": {}, "slow": 0, "readers": {}}
    if given.out and given.out.exists():
        total = json.loads(given.out.read_text())
    only = [word for one in given.only or () for word in ("--only", one)]
    while total["cases"] < given.cases and time.monotonic() < until:
        report = given.found / REPORT
        report.unlink(missing_ok=True)
        left = given.cases - total["cases"]
        own = [
            "--here",
            *["--plain"] * given.plain,
            "--cases",
            str(left),
            "--seed",
            str(given.seed + total["cases"]),
            *only,
        ]
        if given.seconds:
            own += ["--seconds", str(max(1, int(until - time.monotonic())))]
        command = [sys.executable, "-W", "ignore", "-m", "fuzz", *own, "--found", str(given.found)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found: dict[str, Any] = {"cases": 0}
        if report.exists():
            found = json.loads(report.read_text())
        if ended.returncode or not found["cases"]:  # it crashed, or ran out of its address space
            total["tracebacks"][f"ended with {ended.returncode}"] = ended.stderr[-800:]
            if not found["cases"]:
                break
        total["cases"] += found["cases"]
        total["slow"] += found["slow"]
        total["tracebacks"] |= found["tracebacks"]
        for name, one in found["readers"].items():
            _add(total["readers"].setdefault(name, dict(NOTHING)), one)
        if given.out:
            record = {"command": COMMAND, **conditions(), **total}
            given.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, one in sorted(total["readers"].items()):
        print(f"{one['cases']:8,} {name}: at most {one['most_s']:.2f} s, {one['most_mb']:.0f} MB")
    for where, line in total["tracebacks"].items():
        print(f"{where}: {line}")
    summary = {**total, "tracebacks": len(total["tracebacks"])}
    print(json.dumps({key: summary[key] for key in ("cases", "tracebacks", "slow")}))
    raise SystemExit(int(summary["tracebacks"] + summary["slow"] > 0))


NOTHING = {"cases": 0, "most_s": 0.0, "most_mb": 0.0}
"""Of a reader, and of its slowest case and the one that took most memory."""
COMMAND = "PYTHONPATH=tests python -W ignore -m fuzz --cases 100000 --out FILE"


def _add(total: dict[str, Any], found: dict[str, Any]) -> None:
    total["cases"] += found["cases"]
    for key in ("most_s", "most_mb"):
        total[key] = max(total[key], found[key])


def plain(cases: int, seed: int, found: Path, only: Sequence[str] | None, seconds: int) -> None:
    """Run ``cases`` cases in this process, drawn at random: no coverage, and much faster."""
    from fuzz.mutations import mutated, with_other_bytes
    from fuzz.readers import READERS

    rng, until = random.Random(seed), time.monotonic() + (seconds or math.inf)
    targets, files = _targets(only or list(READERS), Path(tempfile.mkdtemp(dir="/dev/shm")))
    case = Case(targets, found, cases)
    for _ in range(cases):
        number = rng.randrange(len(files))
        valid = files[number]
        changed = mutated(valid, rng) if rng.random() < 0.7 else None
        case(bytes([number]) + (with_other_bytes(valid, rng) if changed is None else changed))
        if time.monotonic() > until:
            break
    case.report()


def fuzz(cases: int, seed: int, found: Path, only: Sequence[str] | None, seconds: int) -> None:
    """Run ``cases`` cases in this process, which ends with them."""
    import atheris

    with atheris.instrument_imports(  # pyright: ignore[reportAttributeAccessIssue]
        include=["dcsnas"], enable_loader_override=False
    ):
        from fuzz.readers import READERS

    folder = Path(tempfile.mkdtemp(prefix="dcsnas-fuzz-", dir="/dev/shm"))
    corpus = folder / "corpus"
    corpus.mkdir()
    targets, files = _targets(only or list(READERS), folder)
    for number, content in enumerate(files):
        (corpus / str(number)).write_bytes(bytes([number]) + content)
    case = Case(targets, found, cases)
    bounds = [f"-runs={cases}", f"-max_len={LONGEST}", f"-seed={seed}", "-rss_limit_mb=0"]
    bounds.append(f"-max_total_time={seconds}")
    atheris.Setup(["fuzz", *bounds, "-verbosity=0", str(corpus)], case, custom_mutator=_custom)
    atheris.Fuzz()


def _targets(names: Sequence[str], folder: Path) -> tuple[list[Any], list[bytes]]:
    """Return name, file and reader of each, and the valid files; bounds this process's memory."""
    from fuzz.readers import READERS

    warnings.simplefilter("ignore")
    logging.disable()
    targets = []
    for number, name in enumerate(names):
        (folder / str(number)).mkdir()
        path = READERS[name].prepare(folder / str(number))
        targets.append((name, path, READERS[name].read))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    return targets, [path.read_bytes() for _, path, _ in targets]


def _custom(data: bytes, most: int, seed: int) -> bytes:
    """Return a case whose first byte says the reader: values exchanged, or bytes."""
    import atheris

    from fuzz.mutations import mutated

    rng = random.Random(seed)
    first = data[:1] if rng.random() < 0.98 else bytes([rng.randrange(256)])
    changed = mutated(data[1:], rng) if rng.random() < 0.7 else None
    changed = atheris.Mutate(data[1:], most - 1) if changed is None else changed
    return (first or b"\0") + changed[: most - 1]


class Case:
    """Reads one file after another, and keeps those that are not read or refused as they should."""

    def __init__(self, targets: Sequence[Any], found: Path, cases: int) -> None:
        self.targets, self.found, self.cases = targets, found, cases
        self.counts: Counter[str] = Counter()
        self.readers: dict[str, dict[str, Any]] = {}
        self.slow = 0
        self.kinds: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        """Run the case ``data``."""
        from dcsnas.config.errors import UserError

        name, path, read = self.targets[(data or b"\0")[0] % len(self.targets)]
        os.chdir(path.parent)
        seconds, mb = math.inf, 0.0
        for _ in range(TRIES):
            path.write_bytes(data[1:])
            before, began = _reset_peak(), time.monotonic()
            try:
                read(path)
            except UserError:
                pass
            except BaseException as error:
                self._note(name, error, data[1:])
            seconds, mb = time.monotonic() - began, _memory_mb("VmHWM") - before
            if seconds <= MOST_S:
                break
        if seconds > MOST_S or mb > MOST_MB:
            self.slow += 1
            self._keep(name, f"slow-{self.slow}-{seconds:.1f}s-{mb:.0f}MB", data[1:])
        self.counts[name] += 1
        one = {"cases": 1, "most_s": round(seconds, 3), "most_mb": round(mb, 1)}
        _add(self.readers.setdefault(name, dict(NOTHING)), one)
        done = self.counts.total()
        if not done % EVERY or done >= self.cases:
            self.report()

    def report(self) -> None:
        """Write how it stands."""
        record = {"cases": self.counts.total(), "tracebacks": self.kinds, "slow": self.slow}
        (self.found / REPORT).write_text(json.dumps({**record, "readers": self.readers}))

    def _note(self, name: str, error: BaseException, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "/dcsnas/" in f.filename and "/tests/" not in f.filename]
        last = (own or frames)[-1]
        where = f"{name}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        if where not in self.kinds:
            self.kinds[where] = str(error)[:200]
            self._keep(name, str(len(self.kinds)), data)

    def _keep(self, name: str, what: str, data: bytes) -> None:
        (self.found / f"{name.replace(' ', '_')}-{what}").write_bytes(data)


def _reset_peak() -> float:
    """Have the kernel measure the peak anew, and return what this process takes now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_mb("VmRSS")


def _memory_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


if __name__ == "__main__":
    main()
