"""Results of a plan on a fake device, where a network takes 1.3 times the sum and 0.2 ms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.errors import UserError
from dcsnas.latency.machine import open_table
from dcsnas.latency.plans.plan import Plan, read_plan
from dcsnas.latency.plans.results import check_results, make_table, read_results, readings_of
from dcsnas.latency.table import Entry, LatencyTable, load_table, save_table
from dcsnas.spaces.space import space_operators
from latency_fakes import fake_ms, micro_space
from plan_fakes import RUNTIME, SPACE, fake_results, network_ms

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def plan(micro_plan: Path) -> Plan:
    return read_plan(micro_plan / "plan.json")


@pytest.fixture
def path(plan: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(fake_results(plan)))
    return path


@pytest.fixture
def table(path: Path, tmp_path: Path) -> LatencyTable:
    return make_table(read_results(path), SPACE, tmp_path / "table.json")


def edit(path: Path, change: Change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(path: Path, change: Change) -> str:
    edit(path, change)
    with pytest.raises(UserError) as error:
        read_results(path)
    return str(error.value)


def scale(data: dict[str, Any], factor: float) -> None:
    """Multiply every time."""
    for parts in data["readings"].values():
        parts[:] = [[[ms * factor, beside * factor] for ms, beside in part] for part in parts]


def first(data: dict[str, Any]) -> list[Any]:
    return next(iter(data["readings"].values()))


def test_the_table_holds_the_device_s_times(table: LatencyTable):
    operators = space_operators(SPACE, SPACE.size)
    assert list(table.file.entries) == list(operators)
    for key, operator in operators.items():
        entry = table.file.entries[key]
        assert isinstance(entry, Entry)
        assert entry.p25 == pytest.approx(fake_ms(operator))
        assert table.entry_ms(operator) == pytest.approx(fake_ms(operator))
        assert entry.count == 2
    assert table.file.verdict
    assert table.file.verdict.state == "quiet"
    assert table.file.reference.p50 == 0.5
    assert table.file.reference.drift_percent == 0


def test_the_conditions_are_the_device_s(table: LatencyTable):
    conditions = table.file.conditions
    for name in ("device", "device_name", "backend", "backend_version", "threads", "allocator"):
        assert getattr(conditions, name) == RUNTIME[name]
    assert (conditions.torch, conditions.cuda, conditions.dtype) == (None, None, "float32")
    assert (conditions.batch, conditions.input) == (1, SPACE.size)


def test_it_is_calibrated_on_its_networks(table: LatencyTable):
    calibration = table.file.calibration
    assert calibration is not None
    assert calibration.scale == pytest.approx(1.3)
    assert calibration.offset_ms == pytest.approx(0.2)
    assert len(calibration.networks) == 6


def test_the_check_is_made_of_held_out_networks(table: LatencyTable, path: Path):
    check = check_results(table, read_results(path))
    assert check is not None
    assert [n.kind for n in check.networks] == ["uniform"] * 12 + ["spread"] * 12
    for network in check.networks:
        assert network.measured_ms == pytest.approx(network_ms(network.choice))
    assert check.all.table.mape_percent == pytest.approx(0, abs=1e-6)
    assert check.all.noise_floor.split == "processes"
    assert check.reference_change_percent == pytest.approx(0)
    assert (check.table_digest, check.seed) == (table.digest, 1)


def test_noise_between_processes_is_in_the_check(table: LatencyTable, path: Path, plan: Plan):
    def slower(data: dict[str, Any]) -> None:
        for model in plan.of_role("network"):
            part = data["readings"][model.file][1]
            part[:] = [[1.1 * ms, beside] for ms, beside in part]

    edit(path, slower)
    check = check_results(table, read_results(path))
    assert check is not None
    assert check.all.noise_floor.mape_percent == pytest.approx(100 * 0.1 / 1.05)


def test_the_table_is_one_of_another_machine(table: LatencyTable, tmp_path: Path):
    path = tmp_path / "table.json"
    save_table(path, table.file)
    assert load_table(path).file == table.file
    assert open_table(path, SPACE.size, allow_foreign=True).file == table.file
    with pytest.raises(UserError, match=r"device_name: 'fake board \(aarch64, 4 CPUs\)' in the"):
        open_table(path, SPACE.size, allow_foreign=False)


def test_an_operator_that_could_not_run_is_recorded(path: Path, plan: Plan, tmp_path: Path):
    broken = plan.of_role("operator")[3]

    def fail(data: dict[str, Any]) -> None:
        del data["readings"][broken.file]
        data["failed"][broken.file] = "Failed to allocate memory"

    edit(path, fail)
    results = read_results(path)
    table = make_table(results, SPACE, tmp_path / "table.json")
    assert table.file.failed == {broken.key: "Failed to allocate memory"}
    assert broken.key not in table.file.entries
    assert table.file.calibration is None or len(table.file.calibration.networks) < 6


def test_times_are_relative_to_the_reference_around_them():
    readings = readings_of([(1.5, 0.5), (1.25, 0.5)])
    assert (readings.ms, readings.reference_ms) == ((1.5, 1.25), (0.5, 0.5))


def test_a_device_that_is_slower_for_a_while_is_corrected_for(path: Path, table: LatencyTable):
    def slow_down(data: dict[str, Any]) -> None:
        for parts in data["readings"].values():
            parts[::2] = [[[2 * ms, 2 * beside] for ms, beside in part] for part in parts[::2]]

    edit(path, slow_down)
    slowed = make_table(read_results(path), SPACE, path)
    for key, entry in slowed.file.entries.items():
        expected = table.file.entries[key].value_ms("relative", 0.5)
        assert entry.value_ms("relative", 0.5) == pytest.approx(expected)
    assert slowed.file.calibration == table.file.calibration


def test_results_of_another_space(path: Path, tmp_path: Path):
    other = micro_space(stem={"width": 8, "kernel": 3, "stride": 2})
    with pytest.raises(UserError, match=r"results of space micro \(\w+\), not of micro \(\w+\)"):
        make_table(read_results(path), other, tmp_path / "table.json")


def test_results_beside_another_plan(path: Path, plan: Plan):
    wanted = plan.wanted.model_copy(update={"batch": 2})
    other = plan.model_copy(update={"wanted": wanted})
    path.with_name("plan.json").write_text(json.dumps(other.model_dump(mode="json")))
    message = refused(path, lambda data: None)
    assert "results.json: results of another plan than" in message
    path.with_name("plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    assert read_results(path).plan == plan


def test_half_a_file(path: Path):
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"results.json: not valid JSON \(truncated or edited\?\)"):
        read_results(path)


def test_a_run_that_is_not_over(path: Path, plan: Plan):
    file = plan.of_role("network")[-1].file
    message = refused(path, lambda data: data["readings"].pop(file))
    assert "not complete: 1 of 59 models lack samples, such as networks/0030.onnx" in message
    assert "until it says finished" in message


def test_too_few_samples_or_processes(path: Path, plan: Plan):
    operator, network = plan.of_role("operator")[0].file, plan.of_role("network")[0].file
    assert operator in refused(path, lambda data: data["readings"][operator][0].pop())
    edit(path, lambda data: data["readings"].update({operator: [[[1.0, 0.5]] * 2]}))
    one_process = [[[1.0, 0.5]] * 4]
    assert network in refused(path, lambda d: d["readings"].update({network: one_process}))


def test_seconds_that_stand_for_milliseconds(path: Path):
    message = refused(path, lambda data: scale(data, 1e-3))
    assert "is faster than any device: are these seconds? times must be in ms" in message


def test_more_than_a_core_can_compute(path: Path, plan: Plan):
    """A network of the plan in a time that 3e8 multiply-accumulates per ms do not allow."""
    largest = max(plan.of_role("network"), key=lambda model: model.macs)

    def rush(data: dict[str, Any]) -> None:
        ms = largest.macs / 4e8
        data["readings"][largest.file] = [[[ms, 0.5]] * 2] * 2

    assert f"'{largest.key}' is faster than any device" in refused(path, rush)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("unit"), "unit: missing"),
        (lambda d: d.update(unit="s"), "unit: Input should be 'ms' (given: 's')"),
        (lambda d: d.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda d: d["plan"]["wanted"].update(dtype="float16"), "wanted.dtype: Input should be"),
        (lambda d: d["plan"]["wanted"].update(batch=4), "digest: the plan was edited"),
        (lambda d: d["runtime"].update(provider="XnnpackExecutionProvider"), "runtime.provider"),
        (lambda d: d.update(reference=[]), "reference"),
        (lambda d: first(d)[0].__setitem__(0, [1.0]), "no time of the reference beside this one"),
        (lambda d: first(d)[0].__setitem__(0, 1.0), "no time of the reference beside this one"),
        (lambda d: first(d)[0].__setitem__(0, [1.0, 0]), "greater than 0"),
        (lambda d: d["readings"].update({"x.onnx": []}), "x.onnx is not in the plan"),
    ],
)  # fmt: skip
def test_damaged_results(path: Path, change: Change, message: str):
    found = refused(path, change)
    assert found.startswith(f"{path}: ")
    assert message in found


def test_a_device_on_which_nothing_runs(path: Path, plan: Plan):
    files = [model.file for model in plan.of_role("operator")]
    message = refused(path, lambda d: d["failed"].update(dict.fromkeys(files, "no kernel")))
    assert "no operator could run on fake board (aarch64, 4 CPUs): no kernel" in message
