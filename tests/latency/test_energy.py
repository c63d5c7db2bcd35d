"""Energy of operators by fake counters: RAPL's files, NVML's library, a meter that is told."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dcsnas.cli import profile as command
from dcsnas.config.files import read_json
from dcsnas.latency.backends import Workload
from dcsnas.latency.energy import (
    NoMeterError,
    Nvml,
    Rapl,
    energy_mj,
    find_meter,
    with_energy,
)
from dcsnas.latency.table import Entry, LatencyTable, load_table, save_table
from dcsnas.spaces.network import Operator
from latency_fakes import fake_table, fake_workload, micro_space

SPACE = micro_space()


def package(root: Path, name: str, uj: int) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{uj}\n")
    (folder / "max_energy_range_uj").write_text("1000\n")
    return folder


def test_rapl_sums_packages_and_counts_on_where_one_starts_anew(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 900)
    package(tmp_path, "intel-rapl:1", 10)
    package(tmp_path, "intel-rapl:0:0", 5)  # the cores of package 0, which it holds already
    meter = Rapl(tmp_path)
    start = meter.joules()
    package(tmp_path, "intel-rapl:0", 100)
    package(tmp_path, "intel-rapl:1", 60)
    package(tmp_path, "intel-rapl:0:0", 500)
    assert meter.joules() - start == pytest.approx((200 + 50) / 1e6)


def test_what_has_no_counter_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoMeterError, match=r"no RAPL counter in .*: a virtual machine, or"):
        find_meter("cpu", root=tmp_path)
    (package(tmp_path, "intel-rapl:0", 0) / "energy_uj").write_text("not a number")
    with pytest.raises(NoMeterError, match=r"cannot be read .* an administrator can allow it"):
        find_meter("cpu", root=tmp_path)
    package(tmp_path, "intel-rapl:0", 7)
    assert find_meter("cpu", root=tmp_path).name == "rapl"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoMeterError, match="pynvml is not installed"):
        find_meter("cuda")


class FakeNvml(SimpleNamespace):
    NVMLError = KeyError

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self.mj[handle]


def test_nvml_counts_millijoules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Nvml(FakeNvml(mj={0: 1500})).joules() == 1.5
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(mj={0: 3}))
    assert find_meter("cuda").name == "nvml"
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(mj={}))
    with pytest.raises(NoMeterError, match="the GPU's driver gives no energy"):
        find_meter("cuda")


class ToldMeter:
    """Counts what workloads tell it."""

    name = "told"

    def __init__(self) -> None:
        self.total = 0.0

    def joules(self) -> float:
        return self.total


def test_the_mean_of_whole_runs_is_taken() -> None:
    meter, waits = ToldMeter(), []
    now = iter([0.0, *(0.1 * i for i in range(100))])

    def run() -> None:
        meter.total += 0.25

    found = energy_mj(
        run, meter, synchronize=lambda: waits.append(1), seconds=0.45, clock=lambda: next(now)
    )
    assert found == pytest.approx(250)
    assert meter.total == 0.25 * len(waits), "the device is waited for after every run"


def written(tmp_path: Path) -> LatencyTable:
    return save_table(tmp_path / "table.json", fake_table(SPACE).file)


def test_a_table_gets_it_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    table, seen = written(tmp_path), []

    def measure(run: Any, meter: Any, **options: Any) -> float:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(run())
        return 2 * seen[-1]

    with pytest.raises(KeyboardInterrupt):
        with_energy(table, fake_workload, ToldMeter(), measure=measure)
    stopped = load_table(tmp_path / "table.json")
    measured = [e.energy_mj for e in stopped.file.entries.values() if isinstance(e, Entry)]
    assert sum(value is not None for value in measured) == 3
    runs: list[float] = []

    def go_on(run: Any, meter: Any, **options: Any) -> float:
        runs.append(run())
        return 2 * runs[-1]

    rest = with_energy(stopped, fake_workload, ToldMeter(), measure=go_on)
    assert len(runs) == len(measured) - 3
    assert rest.file.energy_meter == "told"
    for entry in rest.file.entries.values():
        assert isinstance(entry, Entry)
        assert entry.energy_mj == pytest.approx(2 * entry.p25)
    assert load_table(tmp_path / "table.json").file == rest.file


def test_what_is_out_of_memory_has_none(tmp_path: Path) -> None:
    def prepare(operator: Operator, conditions: Any) -> Workload:
        raise MemoryError

    found = with_energy(written(tmp_path), prepare, ToldMeter())
    assert all(e.energy_mj is None for e in found.file.entries.values() if isinstance(e, Entry))


def test_a_table_without_it_is_written_as_before(tmp_path: Path) -> None:
    content = read_json(Path(written(tmp_path).source))
    assert "energy_meter" not in content
    assert not any("energy_mj" in entry for entry in content["entries"].values())


def test_the_command_says_where_there_is_no_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = written(tmp_path)
    before = Path(table.source).read_bytes()

    def none(device: str) -> Any:
        raise NoMeterError("no RAPL counter in /sys/class/powercap")

    monkeypatch.setattr("dcsnas.latency.energy.find_meter", none)
    command._measure_energy(table)
    assert capsys.readouterr().out == "no energy: no RAPL counter in /sys/class/powercap\n"
    assert Path(table.source).read_bytes() == before
