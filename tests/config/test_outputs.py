"""Outputs are tried before work begins, have one writer, and replace nothing unasked."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.outputs import LOCK, InUseError, held, one_writer, output, require_output
from dcsnas.config.runs import file_in, run_folder

HOLD = """
import sys, time
from pathlib import Path
from dcsnas.config.outputs import one_writer
with one_writer(Path(sys.argv[1])):
    Path(sys.argv[1], f"by-{sys.argv[2]}").touch()
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def begin(folder: Path, name: str, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that writes ``by-NAME`` into ``folder`` and holds it."""
    command = [sys.executable, "-c", HOLD, str(folder), name, str(seconds)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@contextmanager
def holder(folder: Path, name: str) -> Iterator[int]:
    """Yield the number of a process that holds ``folder``, until it is killed."""
    with begin(folder, name, 60) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def test_an_existing_file_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    """Faults 15: derive and sample replaced any file that --out named."""
    notes = tmp_path / "notes.txt"
    notes.write_text("work of years")
    with pytest.raises(UserError, match="exists already; give another --out, or --force to"):
        require_output(notes)
    require_output(notes, force=True)
    assert notes.read_text() == "work of years"
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="exists already"):
        require_output(tmp_path / "link")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is a folder; give the path of a file"),
        (
            "file/below.json",
            r"cannot be written, because .*file is a file where a folder is needed",
        ),
        ("n" * 300, r"cannot be written \(File name too long\)"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_out_at_once(
    tmp_path: Path, name: str, reason: str
) -> None:
    """Faults 14: hours of evaluation ended at a folder that nothing can be written to."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=reason):
        require_output(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_system_that_takes_no_files_is_found_out() -> None:
    with pytest.raises(UserError, match=r"/proc/metrics.json: cannot be written"):
        require_output(Path("/proc/metrics.json"))


def test_a_place_in_folders_to_come_is_accepted(tmp_path: Path) -> None:
    require_output(tmp_path / "a" / "b" / "metrics.json")
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_nothing_go(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with one_writer(tmp_path / "kept" / "a" / "b"):
        assert [path.name for path in (tmp_path / "kept/a/b").iterdir()] == [LOCK]
    assert list((tmp_path / "kept").iterdir()) == []
    with output(tmp_path / "kept" / "c" / "out.json"):
        (tmp_path / "kept/c/out.json").touch()
    assert [path.name for path in (tmp_path / "kept/c").iterdir()] == ["out.json"]


def test_the_second_is_told_who_writes(tmp_path: Path) -> None:
    """Faults 6: two runs wrote one folder, and both exited with 0."""
    with holder(tmp_path / "run", "first") as first:
        said = rf"run: in use by process {first} on .+ \(.+, since 20.+\); wait until it ends"
        with pytest.raises(InUseError, match=said), one_writer(tmp_path / "run"):
            pass


def test_of_twenty_pairs_at_once_twenty_are_refused(tmp_path: Path) -> None:
    """Faults 6, and its kind: each pair has one winner, and the other touches nothing."""

    def pair(number: int) -> None:
        folder = tmp_path / str(number)
        both = [begin(folder, name, 6) for name in ("a", "b")]
        ended = [process.communicate(timeout=60) for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 1], ended
        loser = codes.index(1)
        assert "in use by process" in ended[loser][1]
        winner = "ab"[1 - loser]
        assert [path.name for path in folder.iterdir()] == [f"by-{winner}"]

    with ThreadPoolExecutor(20) as pool:
        assert len(list(pool.map(pair, range(20)))) == 20


def test_after_twenty_kills_the_next_takes_over(tmp_path: Path) -> None:
    """The lock of a dead process is no lock."""
    for number in range(20):
        with holder(tmp_path, str(number)):
            pass
    assert (tmp_path / LOCK).exists()
    with one_writer(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {f"by-{n}" for n in range(20)}


def test_what_killed_writers_left_goes(tmp_path: Path) -> None:
    """Random faults: a trial of whether there can be files stayed beside the result."""
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    abandoned = f"metrics.json.{over.pid}.partial"
    kept = [f"metrics.json.{os.getppid()}.partial", f"other.json.{over.pid}.partial",
            "metrics.json.partial", "metrics.json.x.partial"]  # fmt: skip
    for name in (abandoned, *kept):
        (tmp_path / name).touch()
    with output(tmp_path / "metrics.json"):
        assert sorted(p.name for p in tmp_path.glob("*.partial")) == sorted(kept)
    with one_writer(tmp_path):
        assert sorted(p.name for p in tmp_path.glob("*.partial")) == sorted([kept[0], *kept[2:]])


def test_who_has_patience_waits(tmp_path: Path) -> None:
    lock, order = tmp_path / "a" / "lock", []

    def second() -> None:
        with held(lock, of=lock, otherwise="wait", patience_s=30):
            order.append("second")

    thread = threading.Thread(target=second)
    with held(lock, of=lock, otherwise="wait", patience_s=0):
        thread.start()
        thread.join(0.3)
        order.append("first")
        with pytest.raises(InUseError), held(lock, of=lock, otherwise="wait", patience_s=0.1):
            pass
    thread.join(30)
    assert order == ["first", "second"]


def test_runs_without_a_folder_are_numbered_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 6: two commands without --out in one second took the same number."""
    monkeypatch.chdir(tmp_path)
    with run_folder(None, "search", "a/tiny.yaml") as first:
        (first.path / "config.yaml").touch()
        with run_folder(None, "search", "a/tiny.yaml") as second:
            assert (str(first.path), str(second.path)) == (
                "runs/search-0000-tiny",
                "runs/search-0001-tiny",
            )
        with run_folder(None, "search", {}, first=False) as along:
            assert along.path == second.path
    assert [path.name for path in Path("runs").iterdir()] == ["search-0000-tiny"]


def test_a_run_folder_stands_for_the_file_that_is_meant(tmp_path: Path) -> None:
    names = ("backbone.safetensors", "supernet.safetensors")
    with pytest.raises(UserError) as caught:
        file_in(tmp_path, *names)
    assert str(caught.value) == (
        f"{tmp_path}: a folder without backbone.safetensors (dcsnas pretrain writes it) or "
        "supernet.safetensors (dcsnas search writes it); give the file, or a folder with it"
    )
    (tmp_path / names[1]).touch()
    assert file_in(tmp_path, *names) == tmp_path / names[1]
    assert file_in(tmp_path / "other", *names) == tmp_path / "other"
