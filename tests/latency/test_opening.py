"""Opening a table that another machine measured."""

from pathlib import Path

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import current_conditions, open_table
from dcsnas.latency.table import load_table, save_table
from dcsnas.latency.verdict import judge
from dcsnas.spaces.space import space_operators
from latency_fakes import CONDITIONS, fake_ms, fake_table, micro_space

SPACE = micro_space()


def save(path: Path, conditions: Conditions) -> Path:
    file = fake_table(SPACE).file.model_copy(update={"conditions": conditions})
    save_table(path, file)
    return path


def test_the_threads_and_the_allocator_of_the_measurement_may_differ_from_here(tmp_path):
    elsewhere = {"allocator": "jemalloc", "threads": 3, "batch": 8}
    conditions = current_conditions(SPACE.size, 1).model_copy(update=elsewhere)
    path = save(tmp_path / "table.json", conditions)
    assert open_table(path, SPACE.size, allow_foreign=False).file.conditions == conditions


def test_another_machines_table_is_opened_only_when_asked_for(tmp_path):
    path = save(tmp_path / "table.json", CONDITIONS)
    with pytest.raises(UserError, match=r"device_name: 'fake' in the file"):
        open_table(path, SPACE.size, allow_foreign=False)
    assert open_table(path, SPACE.size, allow_foreign=True).file.conditions == CONDITIONS


def test_a_backend_that_does_not_run_here_is_named_with_the_way_round(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_gpu = {"device": "cuda", "device_name": "H200", "backend": "cuda-graph"}
    path = save(tmp_path / "table.json", CONDITIONS.model_copy(update=on_gpu))
    with pytest.raises(UserError) as caught:
        open_table(path, SPACE.size, allow_foreign=False)
    message = str(caught.value)
    assert message.startswith(f"{path}: measured on H200, which cannot be repeated here: backend ")
    assert message.endswith("or use --allow-foreign to work for that device from here")
    open_table(path, SPACE.size, allow_foreign=True)


def test_a_table_of_a_plugins_backend_is_read_without_it_and_measuring_asks_for_it(tmp_path):
    here = current_conditions(SPACE.size, 1)
    path = save(tmp_path / "table.json", here.model_copy(update={"backend": "of_a_plugin"}))
    table = load_table(path, expected=None)
    operator = next(iter(space_operators(SPACE, SPACE.size).values()))
    assert table.latency_ms(operator) == fake_ms(operator)
    open_table(path, SPACE.size, allow_foreign=True)
    with pytest.raises(UserError) as caught:
        open_table(path, SPACE.size, allow_foreign=False)
    assert "backend 'of_a_plugin' is none of eager, " in str(caught.value)
    assert "dcsnas --plugin MODULE; or use --allow-foreign" in str(caught.value)


@pytest.mark.parametrize("allow_foreign", [False, True])
def test_another_input_is_never_accepted(tmp_path, allow_foreign):
    path = save(tmp_path / "table.json", CONDITIONS)
    with pytest.raises(UserError, match="measured at input 16x8, this run uses 32x16"):
        open_table(path, (32, 16), allow_foreign=allow_foreign)


def test_a_disturbed_table_is_opened_only_if_told_so(tmp_path: Path):
    file = fake_table(SPACE).file
    path = tmp_path / "table.json"
    disturbed = judge([1.0] * 8, 0.2, (1.0, 1.1))
    save_table(path, file.model_copy(update={"verdict": disturbed}))
    message = r"table.json: disturbed: .*halves 9.5 % apart; profile again.*--allow-disturbed"
    with pytest.raises(UserError, match=message):
        open_table(path, SPACE.size, allow_foreign=True)
    opened = open_table(path, SPACE.size, allow_foreign=True, allow_disturbed=True)
    assert opened.file.verdict == disturbed
    busy = judge([1.0, 1.5] * 8, 0.9, (1.0, 1.01))
    save_table(path, file.model_copy(update={"verdict": busy}))
    assert open_table(path, SPACE.size, allow_foreign=True).file.verdict == busy
