"""Plans: what is in the folder, and which folders are left alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.backend import operator_module
from dcsnas.latency.interpolation import chosen
from dcsnas.latency.plans.plan import (
    Plan,
    Wanted,
    plan_settings,
    read_plan,
    require_plan_folder,
    write_plan,
)
from dcsnas.latency.reference import REFERENCE_KEY
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import calibration_choices
from dcsnas.spaces.space import space_operators
from latency_fakes import micro_space
from plan_fakes import SPACE


@pytest.fixture
def plan(micro_plan: Path) -> Plan:
    return read_plan(micro_plan / "plan.json")


def test_the_folder_holds_the_models_that_the_plan_names(micro_plan: Path, plan: Plan):
    found = {str(path.relative_to(micro_plan)) for path in micro_plan.rglob("*") if path.is_file()}
    named = {model.file for model in plan.models}
    assert found == named | {"plan.json", "run.py", "trtexec.sh"}
    for model in plan.models:
        content = (micro_plan / model.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == model.sha256
        (given,) = onnxruntime.InferenceSession(content).get_inputs()
        assert tuple(given.shape) == model.input


def test_every_operator_of_the_space_is_planned(plan: Plan):
    operators = space_operators(SPACE, SPACE.size)
    planned = plan.of_role("operator")
    assert [model.key for model in planned] == list(operators)
    assert [model.macs for model in planned] == [o.cost.macs for o in operators.values()]
    assert [model.key for model in plan.of_role("reference")] == [REFERENCE_KEY]


def test_a_sparse_plan_holds_what_a_sparse_table_measures(tmp_path: Path):
    wanted = Wanted(threads=2, batch=3, input=(18, 10))
    settings = plan_settings(rounds=2, sparse=True)
    plan = write_plan(SPACE, tmp_path / "plan", attention="sa", wanted=wanted, settings=settings)
    operators = space_operators(SPACE, wanted.input)
    assert [model.key for model in plan.of_role("operator")] == chosen(operators)
    assert {model.input[0] for model in plan.models[1:]} == {3}
    assert plan.of_role("reference")[0].input[0] == 1
    assert (plan.attention, plan.settings.sparse, plan.wanted) == ("sa", True, wanted)


def test_networks_calibrate_or_are_held_out(plan: Plan):
    networks = plan.of_role("network")
    drawn = [model.drawn for model in networks]
    assert drawn == ["calibration"] * 6 + ["uniform"] * 12 + ["spread"] * 12
    choices = [model.choice for model in networks]
    assert choices[:6] == calibration_choices(SPACE, 6, 0)
    assert all(choices.count(choice) == 1 for choice in choices)
    for model in networks:
        assert model.macs == SPACE.architecture(model.choice or {}).cost(SPACE.size).macs


def test_a_space_of_few_networks_is_planned_with_fewer(tmp_path: Path):
    rows = [{"op": "block", "expansion": [1.5, 3], "width": [4, 8, 12, 16], "stride": 2}]
    space = micro_space(rows=rows)  # 8 networks, of which 6 calibrate
    wanted, settings = (
        Wanted(threads=1, batch=1, input=(16, 8)),
        plan_settings(rounds=2, sparse=True),
    )
    plan = write_plan(space, tmp_path / "p", attention=None, wanted=wanted, settings=settings)
    drawn = [model.drawn for model in plan.of_role("network")]
    assert drawn == ["calibration"] * 6 + ["uniform", "spread"]


def test_a_model_computes_what_the_operator_does(micro_plan: Path, plan: Plan):
    operators = space_operators(SPACE, SPACE.size)
    for model in plan.of_role("operator")[::7]:
        module, images = operator_module(operators[model.key], 1)
        session = onnxruntime.InferenceSession((micro_plan / model.file).read_bytes())
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            expected = module.eval()(images).numpy()
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3, atol=1e-5)


def test_a_network_has_the_weights_of_its_architecture(micro_plan: Path, plan: Plan):
    model = plan.of_role("network")[-1]
    network = build(SPACE.architecture(model.choice or {}))
    num_bytes = sum(4 * parameter.numel() for parameter in network.parameters())
    assert num_bytes < (micro_plan / model.file).stat().st_size < num_bytes + 50_000


def test_plans_differ_by_what_they_ask_for(plan: Plan):
    batch = plan.wanted.model_copy(update={"batch": 2})
    assert plan.model_copy(update={"wanted": batch}).digest != plan.digest
    assert plan.model_copy().digest == plan.digest


def test_an_edited_plan_is_refused(micro_plan: Path, tmp_path: Path):
    data = json.loads((micro_plan / "plan.json").read_text())
    data["wanted"]["batch"] = 8
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"plan.json: digest: the plan was edited"):
        read_plan(path)
    path.write_text(json.dumps(data)[:100])
    with pytest.raises(UserError, match="truncated or edited"):
        read_plan(path)


def test_only_a_plan_is_replaced_and_only_if_asked(tmp_path: Path):
    require_plan_folder(tmp_path / "new", force=False)
    (tmp_path / "empty").mkdir()
    require_plan_folder(tmp_path / "empty", force=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    for force in (False, True):
        with pytest.raises(UserError, match=r"photos: exists and is not a plan"):
            require_plan_folder(tmp_path / "photos", force=force)
    (tmp_path / "photos" / "plan.json").touch()
    with pytest.raises(UserError, match=r"holds a plan already; .*--force"):
        require_plan_folder(tmp_path / "photos", force=False)
    require_plan_folder(tmp_path / "photos", force=True)
