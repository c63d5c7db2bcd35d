"""Two processes that train together end together, with one message, and continue together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import fake_table, micro_space
from reid_data import write_class_folder, write_reid_set

TESTS = Path(__file__).parents[1]
SECONDS = 300
"""Far more than any run needs; a run that hangs is killed then."""
CONFIG = {
    "data": {"root": "people", "workers": 0},
    "epochs": 2,
    "batch": {"identities": 4, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2]},
    "run": {"device": "cpu", "devices": 2, "threads": 1},
}
PRETRAIN = {
    **{key: CONFIG[key] for key in ("epochs", "augment", "run")},
    "data": {"root": "classes", "workers": 0},
    "batch_size": 4,
}
MISTAKE = "error: people/gone.jpg: cannot be decoded\n"
KILLED = "error: a process of this run was ended by SIGKILL; was there too little memory?\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an architecture, a data set and a configuration."""
    write_reid_set(tmp_path / "people", identities=8, images=6)
    write_class_folder(tmp_path / "classes")
    space = micro_space()
    file = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    save_architecture(tmp_path / "architecture.yaml", file)
    (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN))
    (tmp_path / "tmp").mkdir()
    return tmp_path


def start(folder: Path, failing: str, output: int, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, whose temporary files lie in ``folder``."""
    # what Lightning may have left in this process is not for those it starts
    foreign = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {
        **{key: value for key, value in os.environ.items() if key not in foreign},
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS))),
        "FAILING": failing,
        "TMPDIR": str(folder / "tmp"),
    }
    stage, *options = command or ("retrain", "--out", "run")
    program = [sys.executable, "-W", "ignore", str(TESTS / "failing_command.py"), stage]
    program += [f"{stage}.yaml", "--arch", "architecture.yaml", *options]
    return subprocess.Popen(
        program,
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(running: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(running.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    running.wait()


def ends(folder: Path, failing: str, *command: str) -> tuple[int, str]:
    """Return the exit code and all that was printed."""
    running = start(folder, failing, subprocess.PIPE, *command)
    try:
        output, _ = running.communicate(timeout=SECONDS)
    finally:
        end(running)
    assert not list((folder / "tmp").glob("dcsnas-*"))
    return running.returncode, output.decode()


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ("0:mistake", MISTAKE),
        ("all:hang", MISTAKE),
        ("1:die", KILLED),
    ],
)
@pytest.mark.slow
def test_a_mistake_ends_all_with_one_message(folder: Path, failing: str, expected: str) -> None:
    code, printed = ends(folder, failing)
    assert code == 2
    assert printed.count("error: ") == 1
    assert printed.endswith(expected)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_the_files_of_all_processes(folder: Path) -> None:
    """More of them than a message has room for, and no --out: one run folder for all."""
    larger = ("--set", "batch.images=20", "--set", "epochs=5")
    code, output = ends(folder, "all:diverge", "retrain", *larger)
    assert code == 2
    assert "\nerror: the loss is nan at step 8; lower optimizer.lr, or " in output
    assert output.count("error: ") == 1
    (run,) = (folder / "runs").iterdir()
    assert output.endswith(f" and 16 more, all in runs/{run.name}/non_finite_batch.txt\n")
    files = [Path(line) for line in (run / "non_finite_batch.txt").read_text().splitlines()]
    assert len(files) == 80
    assert {path.parent.name for path in files} == {"bounding_box_train"}
    assert len({path.name[:4] for path in files}) == 4, "the identities of the whole batch"


@pytest.mark.slow
def test_a_process_that_never_begins_ends_all(folder: Path) -> None:
    code, output = ends(folder, "1:never begin")
    assert code == 1
    assert output.endswith("error: there is something else here\n")


@pytest.mark.slow
def test_our_own_mistake_is_shown_once(folder: Path) -> None:
    code, output = ends(folder, "1:crash")
    assert code == 1
    assert output.count("Traceback") == 1
    assert output.endswith("KeyError: 'our own mistake'\n")


def terminal_output(folder: Path, failing: str) -> tuple[int, str]:
    """Return the exit code of a command and what it wrote to a terminal."""
    controller, terminal = os.openpty()
    running = start(folder, failing, terminal)
    os.close(terminal)

    def read() -> Iterator[bytes]:
        while True:
            try:
                yield os.read(controller, 4096)
            except OSError:  # nobody has the terminal open any more
                return

    try:
        output = b"".join(read())
        running.wait(SECONDS)
    finally:
        end(running)
        os.close(controller)
    return running.returncode, output.decode().replace("\r\n", "\n")


@pytest.mark.slow
def test_a_terminal_shows_one_display_and_one_message(folder: Path) -> None:
    code, output = terminal_output(folder, "1:mistake")
    assert code == 2
    assert output.count("\x1b[?25l") == 1, "the cursor is hidden once"
    assert output.count("\x1b[?25h") == 1, "and given back once"
    assert "epoch 2/2" in output
    assert output.count("error: ") == 1
    assert output.endswith(MISTAKE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "weights", "workers"),
    [("retrain", "model.safetensors", 1), ("pretrain", "backbone.safetensors", 0)],
)
def test_stopped_within_an_epoch(folder: Path, stage: str, weights: str, workers: int) -> None:
    every_step = ("--set", "run.checkpoint_minutes=0.000001", "--set", f"data.workers={workers}")
    code, output = ends(folder, "none:", stage, "--out", "whole", *every_step)
    assert code == 0, output
    code, output = ends(folder, "1:mistake", stage, "--out", "stopped", *every_step)
    assert code == 2
    assert output.endswith(MISTAKE)
    stopped = torch.load(folder / "stopped" / "last.ckpt", weights_only=True)
    assert (stopped["epoch"], stopped["global_step"]) == (1, 8)
    code, output = ends(folder, "none:", stage, "--out", "stopped", *every_step)
    assert code == 0, output
    for name in (weights, "metrics.jsonl"):
        found, expected = ((folder / run / name).read_bytes() for run in ("stopped", "whole"))
        assert found == expected, name
