"""Signs of life of several machines, on a store of this process; real hosts are in tests/hosts."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from dcsnas.config.last_word import LAST_WORD, give_back, say
from dcsnas.training import machines
from dcsnas.training.machines import FAILED, MachineWatch, several_machines, tell_machines

PATIENCE_S = 20.0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the store of two machines, of which this process is on the first."""
    server = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    told = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    told |= {"LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "2"}
    told |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(server.port)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machines, "INTERVAL_S", 0.02)
    monkeypatch.setattr(machines, "TELLING_S", 1.0)
    return server


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what this process would have ended with."""
    said: list[str] = []

    def end(self: MachineWatch, message: str) -> None:
        said.append(message)
        self._over.set()

    monkeypatch.setattr(MachineWatch, "_end", end)
    return said


@pytest.fixture
def watch(store: Any, ends: list[str]) -> Iterator[MachineWatch]:
    """Return what looks after one other machine, which it has met."""
    made = MachineWatch()
    made.start()
    assert made._alive.wait(PATIENCE_S)
    store.set("dcsnas/life/1", "other 1")
    made.others = {1: "birch"}
    yield made
    made.stop()


def test_a_silent_machine_is_named(watch: MachineWatch, ends: list[str]) -> None:
    assert watch._over.wait(PATIENCE_S)
    (message,) = ends
    assert message.startswith("birch, machine 1 of this run, has given no sign of life for ")
    assert watch._looks >= machines.SILENT


def test_a_living_machine_and_one_that_is_done_are_none(
    watch: MachineWatch, ends: list[str], store: Any
) -> None:
    for beat in range(3 * machines.SILENT):
        store.set("dcsnas/life/1", f"other {beat}")
        time.sleep(machines.INTERVAL_S)
    store.set("dcsnas/life/1", machines.OVER)
    time.sleep(2 * machines.SILENT * machines.INTERVAL_S)
    assert ends == []
    watch.stop()
    assert store.get("dcsnas/life/0") == machines.OVER.encode()


def test_a_machine_that_fails_tells_the_others(
    watch: MachineWatch, ends: list[str], monkeypatch: pytest.MonkeyPatch, store: Any
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    tell_machines("torchrun starts over")
    assert store.get(FAILED) == b"-"
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    tell_machines("no such data")
    tell_machines("a later one")
    assert watch._over.wait(PATIENCE_S)
    (message,) = ends
    assert message.endswith(" has ended: no such data")


def test_a_store_that_does_not_answer_is_a_lost_machine(
    store: Any, ends: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = MachineWatch._look

    def hang(self: MachineWatch, store: Any) -> None:
        looks(self, store)
        if self._looks == 3:
            self._over.wait(PATIENCE_S)

    monkeypatch.setattr(MachineWatch, "_look", hang)
    watch = MachineWatch()
    watch.start()
    assert watch._over.wait(PATIENCE_S)
    (message,) = ends
    assert message.startswith("localhost, where the machines of this run meet (port ")
    watch.stop()


def test_one_machine_is_not_several(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    told = {name: "1" for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE")}
    told |= {"LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    assert not several_machines(told)
    assert several_machines({**told, "GROUP_WORLD_SIZE": "2"})
    assert not several_machines({"GROUP_WORLD_SIZE": "2"})


def test_the_last_word_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LAST_WORD, str(tmp_path / "word"))
    say("first")
    say("second")
    give_back()
    say("third")
    assert capsys.readouterr().err == "error: first\nerror: third\n"
    monkeypatch.delenv(LAST_WORD)
    say("fourth")
    say("fifth")
    assert capsys.readouterr().err == "error: fourth\nerror: fifth\n"
