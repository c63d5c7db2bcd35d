"""Two processes train one detector: real runs over gloo by the command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dcsnas.config.jsonl import read_records
from dcsnas.spaces.architecture import save_architecture
from detection_setup import content, needs_torchvision, network, write_config, write_set

pytestmark = pytest.mark.slow
SECONDS = 240


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a set, a network and a configuration for two processes."""
    needs_torchvision()
    folder = tmp_path_factory.mktemp("devices")
    for split in ("train", "val"):
        write_set(folder / "coco", content(), split)
    save_architecture(folder / "plain.yaml", network())
    run: dict[str, Any] = {"threads": 1, "devices": 2, "device": "cpu"}
    write_config(folder / "c.yaml", Path("coco"), run=run, epochs=3, validate_every=1)
    return folder


def start(work: Path, out: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dcsnas", "detect", "train", "c.yaml", "--arch", "plain.yaml"]
    return subprocess.Popen(
        [*command, "--out", out],
        cwd=work,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> None:
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, printed


def test_a_killed_training_goes_on_to_the_same_weights(work: Path) -> None:
    finish(start(work, "whole"))
    records = read_records(work / "whole/metrics.jsonl")
    assert [record["epoch"] for record in records] == [1, 2, 3]
    killed = start(work, "killed")
    log, until = work / "killed/metrics.jsonl", time.monotonic() + SECONDS
    while not (log.is_file() and read_records(log)):
        assert killed.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    finish(start(work, "killed"))
    found, expected = (load_file(work / n / "detector.safetensors") for n in ("killed", "whole"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    scores = [read_records(work / n / "metrics.jsonl") for n in ("killed", "whole")]
    assert scores[0] == scores[1]


def test_the_processes_learn_from_different_images(work: Path) -> None:
    """A run of one process is another: each of two draws the samples of its own share."""
    command = [sys.executable, "-m", "dcsnas", "detect", "train", "c.yaml", "--arch", "plain.yaml"]
    alone = [*command, "--out", "alone", "--set", "run.devices=1", "--set", "epochs=1"]
    subprocess.run(alone, cwd=work, check=True, capture_output=True, timeout=SECONDS)
    one, two = (read_records(work / n / "metrics.jsonl")[0] for n in ("alone", "whole"))
    assert one.keys() == two.keys()
    assert one["loss"] != two["loss"]
    assert two["loss"] == pytest.approx(one["loss"], rel=0.5)
