"""``python -m faults``: disturb stages at random moments, and say how they end.

Command: PYTHONPATH=tests .venv/bin/python -m faults --kills 100 --out FILE

A case draws, from its seed, a stage, a fault and the moment of it. The stage is begun, disturbed,
mended, and continued by the command that it told, or by the same command. Its end is compared with
that of an uninterrupted run. The last line is one JSON object: ``kills`` (cases in which the fault
came), ``equal`` (ended with the same files, bit for bit), ``refused`` (ended with one message, and
changed nothing), ``wrong`` (all else: a traceback, a hang, another result, a file half written).
The exit code is 1 where a case is wrong. It takes root, Linux and gcc; it mounts where nobody else
sees it.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conditions import conditions

PRELOADED = "FAULT_PRELOADED"
"""The variable by which this process knows that it has mounts of its own and the shim."""
COMMAND = "PYTHONPATH=tests python -W ignore -m faults --kills 100 --out FILE"


def prepare() -> None:
    """Start over with the shim and with mounts of its own, unless that has been done."""
    if PRELOADED in os.environ:
        return
    if os.geteuid():
        raise SystemExit("random faults mount disks and lock folders: run this as root")
    shim = Path(tempfile.mkdtemp(prefix="dcsnas-shim-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    environment = {**os.environ, PRELOADED: str(shim), "LD_PRELOAD": str(shim)}
    environment["OMP_NUM_THREADS"] = "1"
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, str(Path(root) / "tests")])
    own = [sys.executable, "-m", "faults", *sys.argv[1:]]
    os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", *own], environment)


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=16, help="faults that come")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--stage", action="append", help="these stages alone")
    parser.add_argument("--kind", action="append", help="these kinds alone")
    parser.add_argument("--keep", type=Path, help="keep the folders of wrong cases here")
    parser.add_argument(
        "--out", type=Path, help="write every case there, or go on with those there"
    )
    parser.add_argument("--seconds", type=int, default=10**9, help="begin no case after that")
    given = parser.parse_args()
    prepare()

    from dcsnas.config.environment import quiet_libraries

    quiet_libraries()
    from faults.cases import run_cases

    record = Record(given)
    root = Path(tempfile.mkdtemp(prefix="dcsnas-faults-"))
    parent = os.getpid()
    try:
        if record.kills_left:
            for case in run_cases(root, given, record.numbers(), record.kills_left):
                record.add(case)
    finally:
        if os.getpid() == parent:
            subprocess.run(["umount", "-R", str(root)], capture_output=True, check=False)
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(Path(os.environ[PRELOADED]).parent, ignore_errors=True)
    summary = summary_of(record.cases)
    print(json.dumps(summary))
    raise SystemExit(int(summary["wrong"] > 0))


def summary_of(cases: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many faults came, and what became of them; a wrong case counts in any event."""
    outcomes = [case["outcome"] for case in cases if case["came"] or case["outcome"] == "wrong"]
    counts = {name: outcomes.count(name) for name in ("equal", "refused", "wrong")}
    return {"kills": len(outcomes), **counts}


class Record:
    """The cases so far, on disk after each of them, with the conditions of each run of them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.path: Path | None = given.out
        self.next_case, self.cases, self.parts = given.first, [], []
        self.mended, self.again = [], []
        """Cases that were wrong, and their numbers: they are run again."""
        if self.path and self.path.exists():
            found = json.loads(self.path.read_text())
            self.cases, self.parts = found["cases"], found["parts"]
            self.next_case = self.parts[-1]["next"]
            wrong = [case for case in self.cases if case["outcome"] == "wrong"]
            self.mended = [*found["mended"], *wrong]
            self.cases = [case for case in self.cases if case not in wrong]
            self.again = [int(case["seed"].partition("-")[2]) for case in wrong]
        self.kills_left = given.kills - summary_of(self.cases)["kills"]
        self.parts.append({"next": self.next_case, **conditions()})

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the cases to run."""
        yield from self.again
        for number in itertools.count(self.next_case):
            self.parts[-1]["next"] = number + 1
            yield number

    def add(self, case: dict[str, Any]) -> None:
        """Add a case that is over."""
        self.cases.append(case)
        if self.path:
            record = {"command": COMMAND, **summary_of(self.cases), "parts": self.parts}
            cases = {"cases": self.cases, "mended": self.mended}
            text = json.dumps({**record, **cases}, indent=1)
            self.path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
