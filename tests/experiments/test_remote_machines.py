"""What is asked of machines before trials run there, with a program in ssh's place."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.config.files import write_text, write_yaml
from dcsnas.config.outputs import LOCK
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.remote import addresses_of, check_machines
from dcsnas.experiments.sweep import dump
from experiment_setup import small_sweep

SSH = '#!/bin/sh\necho "$@" >> {log}\nfor last; do :; done\n{answer}\n'
HERE = 'exec sh -c "$last"'


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """Return a new experiment's folder."""
    folder = ExperimentFolder(tmp_path / "experiment")
    folder.path.mkdir()
    (folder.path / LOCK).write_text("held by this test")
    return folder


def service(**changes: Any) -> dict[str, Any]:
    machine = {"host": "127.0.0.9", "port": 2222, "user": "somebody", "ssh_key_file": "/key"}
    machine |= {"python_path": str(Path(sys.executable).parent), **changes}
    return {"platform": "remote", "nni_manager_ip": "127.0.0.1", "machine_list": [machine]}


def answer_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    """Put a program in ssh's place and return the log of its arguments."""
    program, log = tmp_path / "bin" / "ssh", tmp_path / "ssh.log"
    program.parent.mkdir()
    program.write_text(SSH.format(log=log, answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return log


def test_a_machine_that_is_as_this_one_is_taken(
    inputs: Path, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = answer_with(tmp_path, monkeypatch, HERE)
    check_machines(folder, small_sweep(inputs), service())
    asked = log.read_text()
    assert "-p 2222 -oIdentitiesOnly=yes -i /key -l somebody -- 127.0.0.9 " in asked
    for path in (folder.path / LOCK, inputs / "data", inputs / "table.json", inputs / "space.yaml"):
        assert str(path) in asked


def test_what_differs_is_named_in_a_line_a_machine(
    inputs: Path, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = json.dumps({"versions": {"dcsnas": "0.1"}, "patches": "", "found": {}})
    answer_with(tmp_path, monkeypatch, f"echo '{other}'")
    two = service()
    two["machine_list"].append({**two["machine_list"][0], "host": "127.0.0.8"})
    with pytest.raises(UserError) as caught:
        check_machines(folder, small_sweep(inputs), two)
    first, second = str(caught.value).splitlines()
    assert first.startswith("machine 127.0.0.9: it has dcsnas 0.1, and this machine ")
    assert second == first.replace("0.9:", "0.8:")


def test_a_disk_that_is_not_shared_is_named(
    inputs: Path, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = folder.path / LOCK
    answer_with(tmp_path, monkeypatch, f"echo another > {lock}; {HERE}")
    with pytest.raises(UserError) as caught:
        check_machines(folder, small_sweep(inputs), service())
    assert str(caught.value) == (
        f"machine 127.0.0.9: it does not have {lock} as this machine has; put them on a disk that "
        "all machines have under the same path"
    )


def test_a_machine_that_does_not_answer_is_named(
    inputs: Path, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(tmp_path, monkeypatch, "echo Permission denied >&2; exit 255")
    with pytest.raises(UserError, match=r"machine 127\.0\.0\.9: .*\(Permission denied\); see that"):
        check_machines(folder, small_sweep(inputs), service())


def test_the_command_says_a_line_a_machine(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    log = answer_with(tmp_path, monkeypatch, f'case "$*" in *0.8*) exit 255;; esac\n{HERE}')
    two = service()
    two["machine_list"].append({**two["machine_list"][0], "host": "127.0.0.8"})
    write_yaml(tmp_path / "service.yaml", two)
    write_text(tmp_path / "sweep.yaml", dump(small_sweep(inputs)))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    given = ["--training-service", "../service.yaml"]
    monkeypatch.setattr("sys.argv", ["dcsnas", "experiment", "check", "../sweep.yaml", *given])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    first, second = capsys.readouterr().out.splitlines()
    assert first == "machine 127.0.0.9: ready"
    assert second.startswith("machine 127.0.0.8: it does not answer by SSH as it should")
    assert str(tmp_path / "work" / "runs" / ".check-") in log.read_text()
    assert list((tmp_path / "work" / "runs").iterdir()) == []  # no trace of it


def test_the_command_wants_machines(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write_yaml(tmp_path / "service.yaml", {"platform": "local"})
    write_text(tmp_path / "sweep.yaml", dump(small_sweep(inputs)))
    given = ["--training-service", str(tmp_path / "service.yaml")]
    where = str(tmp_path / "sweep.yaml")
    monkeypatch.setattr("sys.argv", ["dcsnas", "experiment", "check", where, *given])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    assert (
        "service.yaml: names no machines (platform: remote) to look at" in capsys.readouterr().err
    )


def test_the_manager_answers_the_machines_of_the_list() -> None:
    two = service()
    two["machine_list"].append({"host": "localhost"})
    assert {"127.0.0.9", "127.0.0.1"} <= set(addresses_of(two))
    assert addresses_of({"platform": "kubeflow"}) == []
    with pytest.raises(UserError, match=r"machine no-such\.invalid: no address is known"):
        addresses_of(service(host="no-such.invalid"))
