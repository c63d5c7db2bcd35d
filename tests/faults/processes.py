"""Commands in processes of their own that are disturbed while they run.

A process is forked from this one, which has imported everything, or is ``python -m dcsnas`` as a
user starts it, whose first seconds are imports.
"""

import atexit
import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from dcsnas.cli.main import run
from dcsnas.config.interrupts import ctrl_c_blocked, ctrl_c_ends

PATIENCE_S = 300
"""After the fault; a process that then still runs is taken to hang."""
COUNTED = "FAULT_COUNTED"
"""The variable with the file that a process writes the number of its calls to."""
_POLL_S = 0.002

Act = Callable[[int], bool]
"""What happens to the process of this number at the moment of the fault; whether it came."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or the signal negated, what it printed, how long."""

    code: int
    output: str
    seconds: float
    acted: bool
    """Whether it was still running at the moment of the fault."""
    calls: int
    """On files of the case, where the process was forked."""

    @property
    def error(self) -> str:
        """Return its message, from ``error:`` on; empty where there is none."""
        _, found, text = self.output.rpartition("\nerror: ")
        if not found and self.output.startswith("error: "):
            return self.output.strip()
        return f"error: {text}".strip() if found else ""


def command(
    folder: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    moment: float = 0.0,
    act: Act | None = None,
    program: bool = False,
) -> Ended:
    """Run ``dcsnas ARGUMENTS`` in ``folder``, and ``act`` on it after ``moment`` seconds."""
    log, counted = (folder.with_name(folder.name + end) for end in (".log", ".calls"))
    counted.unlink(missing_ok=True)
    own = {"FAULT_BELOW": f"{folder}/", **(environment or {})}
    log.write_text("")
    start = _started if program else _forked
    began = time.monotonic()
    number = start(folder, log, arguments, {**own, COUNTED: str(counted)})
    acted = False
    try:
        while not (over := os.waitpid(number, os.WNOHANG))[0]:
            seconds = time.monotonic() - began
            if act and not acted and seconds >= moment:
                acted = act(number)
            if seconds > moment + PATIENCE_S:
                os.kill(number, signal.SIGUSR1)
                time.sleep(1)  # for the stacks of its threads
                end_group(number)
                os.waitpid(number, 0)
                return Ended(0, f"{log.read_text()}\nhung", seconds, acted, 0)
            time.sleep(_POLL_S)
    finally:
        seconds = time.monotonic() - began
    text = log.read_text(errors="replace").replace("\r", "\n")
    calls = int(counted.read_text()) if counted.exists() else 0
    return Ended(os.waitstatus_to_exitcode(over[1]), text, seconds, acted, calls)


def end_group(number: int) -> None:
    """Kill what is left of a process's group."""
    with suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def _started(folder: Path, log: Path, arguments: Sequence[str], own: Mapping[str, str]) -> int:
    environment = {**os.environ, **own}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dcsnas", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
            preexec_fn=_as_in_a_terminal,
        )
    process.returncode = 0  # it is waited for by its number
    return process.pid


def _as_in_a_terminal() -> None:
    """Take Ctrl-C, which a job in a shell's background ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _forked(folder: Path, log: Path, arguments: Sequence[str], own: Mapping[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    with ctrl_c_blocked():  # until the command says what it does
        if number := os.fork():
            with suppress(OSError):  # whichever of the two comes first
                os.setpgid(number, number)
            return number
        _child(folder, log, arguments, own)
    raise AssertionError("the child has returned")


def _child(folder: Path, log: Path, arguments: Sequence[str], own: Mapping[str, str]) -> NoReturn:
    code: Any = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        with log.open("w") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
        _main(folder, arguments, own)
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _main(folder: Path, arguments: Sequence[str], own: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(own)
    faulthandler.register(signal.SIGUSR1)
    _as_in_a_terminal()
    ctrl_c_ends()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # a process that was forked cannot be started over
    allocator: Any = import_module("dcsnas.latency.allocator")
    allocator.reexec_with_allocator = lambda argv: None
    networks: Any = import_module("dcsnas.latency.whole_networks")
    networks.PASSES = 2
    sys.argv = ["dcsnas", *arguments]
    shim = ctypes.CDLL(None)
    shim.fault_count.restype = ctypes.c_long
    counted = Path(own[COUNTED])
    atexit.register(lambda: counted.write_text(str(shim.fault_count())))
    shim.fault_arm()
    run()
