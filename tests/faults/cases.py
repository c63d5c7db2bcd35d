"""Cases: drawn from their seeds, run, and judged."""

import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_lines
from faults.kinds import KINDS, WITHOUT_MOMENT, Fault, Whole
from faults.processes import Ended, command
from faults.stages import OUT, STAGES, WEIGHTS, Stage, write_inputs

ROOT = Path(__file__).parents[2]
PROGRAM_EVERY = 8
"""Of so many cases one is a program of its own rather than forked."""
FURTHER = 4
"""How often a stage is continued until it is over."""
GOES_ON = ("in use by", "runs already")
"""What a command says that finds another at work, which a killed one has left."""
ENDS = {"SIGKILL": {-9}, "clock": {-9}, "SIGTERM": {-15, 143}, "SIGINT": {-2, 130}}
"""Exit codes of what a signal ends; all else ends with a message and 2."""
ABORTED = {-6, -11}
"""A library without memory aborts the process, of which Python hears nothing."""


def run_cases(
    root: Path, given: Namespace, numbers: Iterator[int], kills: int
) -> Iterator[dict[str, Any]]:
    """Yield the cases of ``numbers``, until the fault has come in ``kills`` of them.

    A line is printed for each.
    """
    until = time.monotonic() + given.seconds
    inputs = root / "inputs"
    inputs.mkdir()
    write_inputs(inputs)
    trained = command(inputs, (*WEIGHTS, "--out", "trained"))
    assert trained.code == 0, trained.output
    (inputs / "trained/model.safetensors").rename(inputs / "model.safetensors")
    shutil.rmtree(inputs / "trained")
    wholes = Wholes(root, inputs)
    came = 0
    for number in numbers:
        case = run_case(root, wholes, f"{given.seed}-{number}", number, given)
        shown = f"{case['stage']:9} {case['kind']:9} {case['fault']}, {case['moment_s']} s"
        print(f"{case['seed']:8} {shown}: {case['outcome']} {case['why']}", flush=True)
        yield case
        came += case["came"]
        if came >= kills or time.monotonic() > until:
            return


class Wholes:
    """The uninterrupted runs of the stages, each run once and when it is asked for."""

    def __init__(self, root: Path, inputs: Path) -> None:
        self.root, self.inputs = root, inputs
        self.of = cache(self._run)

    def _run(self, stage: str, program: bool) -> tuple[Path, Whole]:
        name = f"whole-{stage}" + "-program" * program
        folder = self.new_case(name)
        ended = command(folder, STAGES[stage].arguments, program=program)
        STAGES[stage].leave(folder)
        assert ended.code == 0, ended.output
        if program:  # forked processes do what programs do
            first = self.of(stage, False)[0]
            assert (found := STAGES[stage].difference(folder / OUT, first / OUT)) is None, found
        sizes = [4 * -(-p.stat().st_size // 4096) for p in (folder / OUT).rglob("*")]
        return folder, Whole(ended.seconds, ended.calls, sum(sizes) + max(sizes))

    def new_case(self, name: str) -> Path:
        """Return a new folder with a copy of the inputs and an empty ``out``."""
        folder = self.root / name
        shutil.copytree(self.inputs, folder)
        (folder / OUT).mkdir()
        return folder


def run_case(
    root: Path, wholes: Wholes, seed: str, number: int, given: Namespace
) -> dict[str, Any]:
    """Draw a case from its seed, run it, and return its record."""
    rng = random.Random(seed)
    names = given.stage or [n for n, stage in STAGES.items() for _ in range(stage.weight)]
    stage, kind = rng.choice(names), rng.choice(given.kind or list(KINDS))
    program = kind not in WITHOUT_MOMENT and number % PROGRAM_EVERY == PROGRAM_EVERY - 1
    expected, whole = wholes.of(stage, program)
    folder = wholes.new_case(f"case-{seed}")
    fault = KINDS[kind](rng, whole, folder)
    case = {"seed": seed, "stage": stage, "kind": kind, "fault": fault.described,
            "moment_s": fault.moment, "program": program}  # fmt: skip
    try:
        disturbed = _disturb(folder, stage, fault, program)
        case |= _judged(folder, stage, kind, fault, disturbed, expected)
    finally:
        fault.mend()
        STAGES[stage].leave(folder)
    if case["outcome"] == "wrong" and given.keep:
        _keep(folder, given.keep)
    subprocess.run(["umount", str(folder / OUT)], capture_output=True, check=False)
    shutil.rmtree(folder)
    return case


def portable(printed: str, folder: Path) -> str:
    """Return what a case printed without the paths of this machine: records are kept."""
    for place in (folder, ROOT, Path(sys.base_prefix)):
        printed = printed.replace(f"{place}/", "")
    return printed


def _disturb(folder: Path, stage: str, fault: Fault, program: bool) -> Ended:
    fault.before()
    how = {"environment": fault.environment, "moment": fault.moment, "act": fault.act}
    ended = command(folder, STAGES[stage].arguments, program=program, **how)
    fault.mend()
    return ended


def _judged(
    folder: Path, stage: str, kind: str, fault: Fault, disturbed: Ended, expected: Path
) -> dict[str, Any]:
    """Continue what was disturbed, and return whether the fault came, the outcome, and why."""
    record = {"came": _came(kind, disturbed), "code": disturbed.code}
    printed = portable(disturbed.output, folder)
    record["printed"] = printed[-600:] if disturbed.code else ""
    if found := _wrong_end(stage, kind, disturbed) or half_written(folder / OUT):
        record["printed"] = printed[-6000:]
        return {**record, "outcome": "wrong", "why": found}
    last, told = disturbed, _told(disturbed) or STAGES[stage].arguments
    for _ in range(FURTHER):
        if not (arguments := _next(folder, STAGES[stage], last, told)):
            break
        before = _content(folder / OUT)
        last = command(folder, arguments, environment=fault.after)
        if any(said in last.error for said in GOES_ON):
            time.sleep(5)  # what the killed process had started ends by itself
        elif last.code not in {0, *STAGES[stage].codes}:
            refused = last.code == 2 and last.error and before == _content(folder / OUT)
            outcome = "refused" if refused and "Traceback" not in last.output else "wrong"
            whole = not STAGES[stage].difference(folder / OUT, expected / OUT)
            why = f"continued: {last.output[-600:]}"
            return {**record, "outcome": outcome, "why": why, "whole": whole}
    if _next(folder, STAGES[stage], last, told):
        return {**record, "outcome": "wrong", "why": f"does not end: {last.output[-600:]}"}
    found = STAGES[stage].difference(folder / OUT, expected / OUT)
    return {**record, "outcome": "wrong" if found else "equal", "why": found or ""}


def _next(folder: Path, stage: Stage, last: Ended, told: Sequence[str]) -> Sequence[str] | None:
    """Return the arguments with which a user goes on; None where the stage is over."""
    if stage.next_command:
        return stage.next_command(folder)
    return told if last.code else None


def _came(kind: str, ended: Ended) -> bool:
    return ended.code != 0 if kind in WITHOUT_MOMENT else ended.acted


def _wrong_end(stage: str, kind: str, ended: Ended) -> str | None:
    """Return what is wrong with how a disturbed process ended; None where that is right."""
    if "Traceback" in ended.output or ended.output.endswith("\nhung"):
        return "a traceback, or it hangs"
    allowed = ENDS.get(kind, {2} | (ABORTED if kind == "memory" else set()))
    allowed |= STAGES[stage].codes
    if ended.code and ended.code not in allowed:
        return f"it ended with {ended.code}"
    if ended.code == 2 and len(re.findall(r"^error: ", ended.output, re.MULTILINE)) != 1:
        return "not one message"
    return None


def _told(ended: Ended) -> list[str] | None:
    """Return the arguments of the command by which the product says that it is continued."""
    for line in reversed(ended.output.splitlines()):
        _, found, rest = line.partition("to continue: dcsnas ")
        if found:
            return shlex.split(rest)
    return None


def _content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def half_written(folder: Path) -> str | None:
    """Return a file that is there under its name but not whole."""
    for path in folder.rglob("*"):
        if not path.is_file() or ".partial" in str(path) or "nni" in path.parts:
            continue  # NNI's own files are not ours to write whole
        try:
            _read(path)
        except (UserError, OSError, ValueError, RuntimeError) as error:
            return f"{path.name} is not whole: {error}"
    return None


def _read(path: Path) -> None:
    match path.suffix:
        case ".json":
            read_json(path)
        case ".jsonl":
            read_lines(path)
        case ".yaml":
            read_yaml(path)
        case ".ckpt":
            torch.load(path, map_location="cpu", weights_only=True)
        case ".safetensors":
            with safe_open(path, framework="pt") as file:
                file.keys()
        case ".jpg" | ".png":
            with Image.open(path) as image:
                image.load()


def _keep(folder: Path, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, where / folder.name, dirs_exist_ok=True)
    log = folder.with_name(folder.name + ".log")
    shutil.copy(log, where / log.name)
