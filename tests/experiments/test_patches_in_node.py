"""The patches of NNI's manager alone, loaded into Node as the manager loads them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nni_node
import pytest

from dcsnas.experiments import nni_manager
from dcsnas.experiments.nni_manager import manager_environment

NODE = Path(nni_node.__file__).with_name("node")
STARTER = "exports.getTunerProc = (...given) => { exports.given = given; return exports.process; };"
UTILS = f"exports.process = new (require('events'))(); {STARTER}"
NNI = "global.nni = { args: { pythonInterpreter: 'py' }, shutdown: { processStatus: 'running' } };"
TENSORBOARD = ["tensorboard", "--bind_all --logdir_spec=0-abc:/a b/c", "--port=6006"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module in the place of NNI's own, which starts nothing."""
    (tmp_path / "utils.js").write_text(UTILS)
    return tmp_path


def run(folder: Path, code: str, *, host: str = "127.0.0.1") -> "subprocess.CompletedProcess[str]":
    with manager_environment(host):
        return subprocess.run(
            [NODE, "-e", f"{NNI} const utils = require('./utils'); {code}"],
            **{"cwd": folder, "capture_output": True, "text": True, "timeout": 60},
        )


def started(folder: Path, *command: Any, host: str) -> Any:
    """Return what NNI's ``getTunerProc`` is called with."""
    arguments = ", ".join(map(json.dumps, command))
    code = f"utils.getTunerProc({arguments}); console.log(JSON.stringify(utils.given));"
    return json.loads(run(folder, code, host=host).stdout)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_tensorboard_listens_where_the_page_does(folder: Path, host: str) -> None:
    given = started(folder, TENSORBOARD, "ignore", "/", {}, True, True, host=host)
    program = ["py", "-m", "tensorboard.main"]
    where = ["--host", host, "--logdir_spec=0-abc:/a b/c", "--port=6006"]
    assert given == [[*program, *where], "ignore", "/", {}, False, True]
    tuner = [["sh", "tuner"], "ignore", "/", {}]
    assert started(folder, *tuner, host=host) == tuner


def test_tensorboard_may_end(folder: Path) -> None:
    """Also where the manager only shows the experiment, and so has no tuner."""
    end = "utils.process.emit('exit', 0); console.log('on')"
    tensorboard = run(folder, f"utils.getTunerProc({json.dumps(TENSORBOARD)}); {end}")
    assert (tensorboard.stdout, tensorboard.stderr) == ("on\n", "")
    tuner = run(folder, f"utils.getTunerProc(['sh']); {end}")
    assert "TypeError" in tuner.stderr  # without a tuner's line: this test would see it


def test_patches_in_a_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / 'a "b" c' / "patches.cjs"
    place.parent.mkdir()
    shutil.copy(nni_manager.PATCHES, place)
    monkeypatch.setattr(nni_manager, "PATCHES", place)
    with manager_environment("127.0.0.1"):
        code = "console.log(process.env.DCSNAS_NNI_MANAGER == process.pid)"
        node = subprocess.run([NODE, "-e", code], capture_output=True, text=True, env=os.environ)
    assert (node.stdout, node.stderr) == ("true\n", "")
