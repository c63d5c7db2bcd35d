"""Which variables of a shell reach a command and the processes that it starts."""

import os
from pathlib import Path

import pytest

from dcsnas.config import environment
from dcsnas.config.environment import TORCHRUN, own_environment
from hostile_environments import HOSTILE, ROOT

STARTED = {name: "1" for name in TORCHRUN} | {"MASTER_ADDR": "localhost", "GROUP_RANK": "0"}


@pytest.mark.parametrize("name", ["Slurm", "torchrun", "Lightning", "threads"])
def test_what_is_for_other_programs_is_left_out(name: str) -> None:
    given = HOSTILE[name].variables
    assert not given.keys() & own_environment(given).keys()


def test_what_is_the_users_stays(tmp_path: Path) -> None:
    given = {"HF_HOME": "/a", "CUDA_VISIBLE_DEVICES": "1", "https_proxy": "b", "LD_PRELOAD": "c"}
    given |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "HOME": str(tmp_path), "LC_ALL": "C"}
    given |= {"TMPDIR": str(tmp_path), "MALLOC_ARENA_MAX": "1"}
    assert given.items() <= own_environment(given).items()


def test_torchrun_is_believed_where_all_of_it_is_there() -> None:
    assert STARTED.items() <= own_environment({**STARTED, "SLURM_PROCID": "3"}).items()
    assert "SLURM_PROCID" not in own_environment({**STARTED, "SLURM_PROCID": "3"})
    for missing in TORCHRUN:
        left = {name: value for name, value in STARTED.items() if name != missing}
        assert not left.keys() & own_environment(left).keys()


@pytest.mark.parametrize(
    ("threads", "kept"), [("1", True), ("1,1", True), ("0", False), ("9999", False), ("²", False)]
)
def test_thread_counts_are_kept_where_they_can_be_meant(threads: str, kept: bool) -> None:
    assert ("OMP_NUM_THREADS" in own_environment({"OMP_NUM_THREADS": threads})) is kept


def test_a_home_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # whom the system does not know
    monkeypatch.setattr(
        os, "lstat", lambda path: os.stat_result((0o40700, *[0] * 3, 54321, *[0] * 5))
    )
    for given in ({}, {"HOME": ""}, {"HOME": "/nonexistent"}):
        home = own_environment(given)["HOME"]
        assert home == str(tmp_path / "dcsnas-home-54321")
        assert Path(home).stat().st_mode & 0o777 == 0o700


def test_a_home_in_another_users_hands_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    (tmp_path / "dcsnas-home-54321").mkdir()  # of the user who runs the tests
    home = Path(own_environment({})["HOME"])
    assert home != tmp_path / "dcsnas-home-54321"
    assert home.parent == tmp_path


@pytest.mark.parametrize("given", ["", f":{ROOT}", f"{ROOT}:", f"/elsewhere:{ROOT}"])
def test_children_find_this_package_and_nothing_in_the_current_folder(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dcsnas").mkdir()
    (tmp_path / "dcsnas" / "__init__.py").write_text("")
    monkeypatch.setattr(environment.sys, "path", [str(tmp_path), "/usr/lib/python3"])
    folders = own_environment({"PYTHONPATH": given})["PYTHONPATH"].split(":")
    assert str(ROOT) in folders
    assert str(tmp_path) not in folders


def test_the_copy_that_runs_comes_before_others(tmp_path: Path) -> None:
    (tmp_path / "dcsnas").mkdir()
    (tmp_path / "dcsnas" / "__init__.py").write_text("")
    given = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    assert own_environment(given)["PYTHONPATH"] == f"{ROOT}:{tmp_path}:{ROOT}"


def test_relative_folders_of_the_path_are_those_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = own_environment({"PYTHONPATH": f"{ROOT}:plugins"})["PYTHONPATH"]
    assert folders == f"{ROOT}:{tmp_path / 'plugins'}"
