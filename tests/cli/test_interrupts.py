"""Ctrl-C and SIGTERM end a command at any moment: at once, with their exit code, silently."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcsnas.config.interrupts import SETTLED, STOPPED
from dcsnas.config.plugins import new_processes
from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

ROOT = Path(__file__).parents[2]
BEGINNING = """
import signal, sys, time, weakref
from pathlib import Path
from dcsnas.config import interrupts
from dcsnas.config.interrupts import ctrl_c_ends, ctrl_c_raises
from dcsnas.config.outputs import one_writer
ctrl_c_ends()
interrupts.PATIENCE_S = 0.3
def send():
    signal.raise_signal(signal.SIGINT)
class Loses:
    def __del__(self):
        send()
"""
ENDS = {
    "in an import": ("send()", -signal.SIGINT, ""),
    "while it writes": (
        "with one_writer(Path('run')): Path('half').touch(); send()", 1, "Interruption",
    ),
    "after it has written": ("with one_writer(Path('run')): pass\nsend()", -signal.SIGINT, ""),
    "lost in a finalizer": (
        "with ctrl_c_raises(): Loses(); time.sleep(9)", 1, "in <module>",
    ),
    "swallowed by a library": (
        "with ctrl_c_raises('to continue: x'):\n try: send()\n except BaseException: time.sleep(9)",
        STOPPED, "to continue: x\n",
    ),
    "made another error by a library": (
        "with ctrl_c_raises():\n try: send()\n except BaseException: raise ImportError from None",
        1, "Interruption",
    ),
    "twice": (
        "with ctrl_c_raises():\n try: send()\n finally: send()", -signal.SIGINT, "",
    ),
    "answered": (
        "try:\n with ctrl_c_raises(): send()\nexcept KeyboardInterrupt as e: interrupts.answer(e)\n"
        "time.sleep(0.5)", 0, "",
    ),
}  # fmt: skip
"""Program, exit code, and what the last lines of its errors hold."""


@pytest.mark.parametrize("when", ENDS)
def test_ctrl_c(tmp_path: Path, when: str) -> None:
    """Random faults: in an import it came to light as a RecursionError of NumPy's."""
    program, code, said = ENDS[when]
    command = [sys.executable, "-c", f"{BEGINNING}\n{program}\n"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=8,
        preexec_fn=as_in_a_terminal,
    )
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr if said else not ended.stderr
    assert not (tmp_path / "run").exists()


def as_in_a_terminal() -> None:
    """Take Ctrl-C, which a job in a shell's background, such as this test's, ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def blocks_ctrl_c() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_new_processes_do_not_hear_ctrl_c() -> None:
    """Random faults: one that was importing printed a traceback."""
    with new_processes(1) as pool:
        assert pool.submit(blocks_ctrl_c).result()
    assert not blocks_ctrl_c()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with weights and the data set that they are scored on."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_reid_set(folder / "people")
    space = micro_space()
    file = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    header = header_of("import", file, DataConfig(root=Path("people")), file.input, num_classes=0)
    save_weights(folder / "w.safetensors", build(file.network).state_dict(), header)
    return folder


COMMANDS = {
    "count": ("count", "mobilenetv2_100"),
    "evaluate": ("evaluate", "w.safetensors", "--data", "people", "--no-latency", "--force",
                 "--device", "cpu", "--out", "out/metrics.json"),
}  # fmt: skip
ENDED = {signal.SIGINT: {-signal.SIGINT, 130}, signal.SIGTERM: {-signal.SIGTERM, 143}}
MOMENTS = 20
HANGS_S = 60


def begin(folder: Path, arguments: tuple[str, ...]) -> "subprocess.Popen[str]":
    """Start a command as a terminal does: in a group of its own that hears Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "dcsnas", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=as_in_a_terminal,
    )


def our_code_runs(process: int) -> bool:
    """Return whether the process has been started over; before, Python itself hears signals."""
    return SETTLED.encode() in Path("/proc", str(process), "environ").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDED, ids=lambda number: number.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_at_any_moment(folder: Path, command: str, number: signal.Signals) -> None:
    began = time.monotonic()
    printed, _ = (whole := begin(folder, COMMANDS[command])).communicate()
    assert whole.returncode == 0, printed
    lasts, out, came = time.monotonic() - began, folder / "out", 0
    metrics = [path.read_bytes() for path in out.glob("*")]
    for moment in range(MOMENTS):
        shutil.rmtree(out, ignore_errors=True)
        process = begin(folder, COMMANDS[command])
        try:
            process.wait(moment / MOMENTS * lasts)
        except subprocess.TimeoutExpired:
            ours = our_code_runs(process.pid)
            os.killpg(process.pid, number)
        else:
            ours = True
        printed, _ = process.communicate(timeout=HANGS_S)
        if ours:
            assert "Traceback" not in printed
            assert process.returncode in {0, *ENDED[number]}, (moment, printed)
        came += ours and process.returncode != 0
        # a process that SIGTERM ends leaves its lock, and what it was writing, to the next
        found = [path for path in out.glob("*") if path.suffix == ".json"]
        assert [path.read_bytes() for path in found] == metrics[: len(found)]
        if number == signal.SIGINT and not found:
            assert not out.exists()
    assert came > MOMENTS / 2
