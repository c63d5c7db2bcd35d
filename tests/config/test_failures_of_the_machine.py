"""What the machine lacks ends a command with one message."""

import errno
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.config.last_word import of_the_machine
from dcsnas.config.outputs import one_writer

FAILURES = {
    "memory": (MemoryError(), "too little memory (MemoryError); end other programs"),
    "torch's memory": (
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"),
        "too little memory ([enforce fail",
    ),
    "memory of oneDNN": (RuntimeError("could not create a primitive"), "too little memory"),
    "memory of an import": (ImportError("x.so: failed to map segment"), "too little memory"),
    "disk": (
        OSError(errno.EIO, "Input/output error", "runs/a/last.ckpt"),
        "runs/a/last.ckpt: the system says: Input/output error; make sure that the disk",
    ),
    "a process": (BrokenProcessPool("x"), "a process of this command was ended from outside"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_one_message(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, expected = FAILURES[name]

    def fail() -> None:
        raise error

    monkeypatch.setattr("dcsnas.cli.main.app", fail)
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # put back afterwards
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {expected}")


def test_memory_that_lacked_before_another_error() -> None:
    """Random faults: torch's writer of files, without memory, fails a second time."""
    error = RuntimeError("unexpected pos 46848 vs 46748")
    error.__context__ = MemoryError()
    assert "too little memory (MemoryError)" in str(of_the_machine(error))


@pytest.mark.parametrize("error", [RuntimeError("ours"), KeyError("ours"), OSError("no number")])
def test_mistakes_of_ours_keep_their_traceback(error: Exception) -> None:
    assert of_the_machine(error) is None


def test_a_lock_that_cannot_be_removed_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random faults: a folder that was locked meanwhile ended in a traceback."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    with one_writer(tmp_path / "run"):
        monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.undo()
    with one_writer(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / "writer.lock").exists()
