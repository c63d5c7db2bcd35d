"""Sweeps: what their files may say, which trials come of them."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.search import TargetConfig
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.nni_manager import configure
from dcsnas.experiments.settings import load_sweep, read_sweep, retrain_of, search_of
from dcsnas.experiments.sweep import dump, planned, search_space
from dcsnas.experiments.trial_inputs import check_inputs, trial_inputs, with_absolute_paths
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.shipped import find_sweep, shipped_folder
from experiment_setup import load_content, sweep_content
from latency_fakes import fake_table, micro_space
from search_setup import small_search, write_search_inputs

FOLDER = shipped_folder("experiments") / "nni"
SWEEPS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_shipped_sweep_is_valid_and_says_how_to_run_it(path: Path) -> None:
    sweep = read_sweep(path)
    head = path.read_text().split("\nsearch:")[0]
    for part in ("# Purpose: ", "# Hardware: "):
        assert part in head
    if path.stem.endswith("_tiny"):
        assert re.search(r"\d min", head)
        assert "Outcome: " in head
    else:
        assert "not yet" in head
        assert "# Expected" in head
    assert f"dcsnas experiment start experiments/nni/{path.name}" in head
    assert sweep.count > 2
    assert find_sweep(path.stem) == path


def test_every_shipped_sweep_has_a_small_variant() -> None:
    names = {path.stem for path in SWEEPS}
    large = {name for name in names if not name.endswith("_tiny")}
    assert large == {"latency_sweep", "target_sweep", "eta_sweep", "ablation"}
    assert names - large == {f"{name}_tiny" for name in large}
    tiny = [read_sweep(FOLDER / f"{name}_tiny.yaml").search for name in large]
    assert all(search.space == "tiny" and search.epochs <= 20 for search in tiny)


def test_grid_is_the_product_times_the_seeds() -> None:
    second = {"key": "loss.eta", "values": [0.1, 0.2, 0.3]}
    parameters = {**sweep_content()["parameters"], "eta": second}
    plan = planned(load_content(parameters=parameters, repeats=2))
    assert len(plan) == 2 * 3 * 2
    assert len({json.dumps(one) for one in plan}) == len(plan)
    assert plan[:2] == [{"weight": 0, "eta": 0.1, "seed": i} for i in (0, 1)]


def test_values_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    """Faults 11: 5e-2 was a word in the plan, on the page and in the report."""
    content = sweep_content()
    content["parameters"] = {"eta": {"key": "loss.eta", "values": "VALUES"}}
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(content).replace("VALUES", "[5e-2, 1e-3, 1e0]"))
    sweep = read_sweep(path)
    assert [one["eta"] for one in planned(sweep)] == [0.05, 0.001, 1.0]
    assert all(type(one["eta"]) is float for one in planned(sweep))
    changed = read_sweep(path, overrides=["parameters.eta.values=[2e-2]"])
    assert planned(changed) == [{"eta": 0.02}]


def test_a_mistake_of_an_override_is_blamed_on_it(tmp_path: Path) -> None:
    """Faults 20, in an experiment."""
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(sweep_content()))
    with pytest.raises(UserError, match=r"^--set search\.epochs=0: search\.epochs: Input"):
        read_sweep(path, overrides=["search.epochs=0"])


@given(st.integers(0, 99), st.integers(1, 20))
def test_random_draws_lie_within_and_repeat(seed: int, trials: int) -> None:
    parameters = {
        "weight": {"key": "objective.weight", "low": 0.01, "high": 2.0, "log": True},
        "eta": {"key": "loss.eta", "values": [0, 1]},
    }
    sweep = load_content(parameters=parameters, tuner="random", trials=trials, seed=seed)
    plan = planned(sweep)
    assert len(plan) == trials == sweep.count
    assert all(0.01 <= one["weight"] <= 2.0 and one["eta"] in (0, 1) for one in plan)
    assert plan == planned(sweep)


def test_parameters_reach_the_search() -> None:
    variant = {"options": {"small": {"attention": "none", "epochs": 3, "loss.eta": 0.7}}}
    target = {"options": {"fast": {"objective": {"form": "target", "target": 0.2}}}}
    sweep = load_content(parameters={"variant": variant, "target": target}, repeats=2)
    search: Any
    search, attention, share = search_of(sweep, planned(sweep)[1])
    assert (attention, share) == ("none", None)
    assert (search.epochs, search.loss.eta, search.run.seed) == (3, 0.7, 1)
    assert search.objective.model_dump()["target"] == 0.2
    with pytest.raises(UserError, match="the sweep has no parameter 'width'"):
        search_of(sweep, {"width": 3})


def test_retraining_has_a_seed_of_its_own_in_every_repeat() -> None:
    retrain = {"data": {"root": "people"}, "run": {"seed": 7}}
    sweep = load_content(repeats=3, retrain=retrain)
    seeds = [retrain_of(sweep, one) for one in planned(sweep)[:3]]
    assert [config.run.seed for config in seeds if config] == [7, 8, 9]
    once = load_content(retrain=retrain)
    assert retrain_of(once, planned(once)[0]) == once.retrain
    assert retrain_of(load_content(), {"weight": 0}) is None


def test_parameters_reach_the_retraining() -> None:
    eta = {"key": ["loss.eta", "retrain.loss.eta"], "values": [0, 0.5]}
    optimizer = {"name": "sgd", "lr": 0.2}
    kind = {"options": {"long": {"retrain.epochs": 9, "retrain.optimizer": optimizer}}}
    sweep = load_content(
        parameters={"eta": eta, "kind": kind}, retrain={"data": {"root": "people"}}
    )
    config: Any = retrain_of(sweep, {"eta": 0.5, "kind": "long"})
    assert (config.loss.eta, config.epochs, config.optimizer.name) == (0.5, 9, "sgd")
    search: Any = search_of(sweep, {"eta": 0.5, "kind": "long"}).config
    assert search.loss.eta == 0.5
    with pytest.raises(UserError, match="kind: 'short' is none of long"):
        retrain_of(sweep, {"eta": 0.5, "kind": "short"})


def test_search_space_is_what_nni_calls_it() -> None:
    parameters = {
        "weight": {"key": "objective.weight", "low": 0.1, "high": 2.0, "log": True},
        "kind": {"options": {"a": {}, "b": {}}},
    }
    space = search_space(load_content(parameters=parameters, tuner="tpe", trials=3))
    assert space == {
        "weight": {"_type": "loguniform", "_value": [0.1, 2.0]},
        "kind": {"_type": "choice", "_value": ["a", "b"]},
    }


def test_resolved_sweep_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    sweep = load_content(repeats=2)
    path.write_text(dump(sweep))
    assert load_sweep(path, read_yaml(path)) == sweep


def test_file_names_configurations_and_changes_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "search: search_tiny\nset: {validate_every: 1}\nretrain: retrain_tiny\n"
    parameters = {"eta": {"key": "loss.eta", "values": [0.1]}}
    path.write_text(text + yaml.safe_dump({"parameters": parameters}))
    data, table = tmp_path / "people", tmp_path / "t.json"
    sweep = read_sweep(path, data=data, table=table, overrides=["search.epochs=7"])
    assert (sweep.name, sweep.search.space, sweep.search.epochs) == ("mine", "tiny", 7)
    assert sweep.search.table == table
    assert sweep.retrain
    assert sweep.search.data.root == sweep.retrain.data.root == data
    without = read_sweep(path, data=data, overrides=["retrain=null"])
    assert without.retrain is None
    stages = ["retrain=bag_of_tricks", "retrain.epochs=11", "set.epochs=9"]
    other: Any = read_sweep(path, data=data, overrides=stages)
    assert (other.retrain.epochs, other.retrain.loss.center) == (11, 0.0005)
    assert (other.retrain.data.root, other.search.epochs) == (data, 9)
    with pytest.raises(UserError, match="shipped: ablation"):
        find_sweep("nothing")


@pytest.mark.parametrize("path", sorted((FOLDER / "services").glob("*.yaml")), ids=lambda p: p.stem)
def test_training_services_are_nnis(path: Path, tmp_path: Path) -> None:
    content = read_yaml(path)
    assert content["platform"] == path.stem
    for machine in content.get("machine_list", []):
        machine["ssh_key_file"] = str(path)  # any file; NNI looks whether there is one
    folder = ExperimentFolder(tmp_path)
    folder.service.write_text(yaml.safe_dump(content))
    folder.identity.write_text('{"id": "abc"}')
    config = configure(folder, load_content())
    config.validate()
    # faults 8: whatever lies where it runs there is no module
    assert str(config.trial_command).startswith("python3 -P -m dcsnas.experiments.trial ")
    folder.manager.write_text('{"port": 8080}')
    assert folder.trial_url == "http://192.0.2.1:8080"
    folder.service.write_text(yaml.safe_dump({**content, "machine": []}))
    with pytest.raises(UserError, match="NNI does not take it"):
        configure(folder, load_content())


def test_wrong_inputs_are_refused_before_anything_starts(tmp_path: Path) -> None:
    inputs = write_search_inputs(tmp_path / "inputs")
    good = small_search(inputs, validate_every=1).model_dump(mode="json")
    check_inputs(load_content(search=good, allow_foreign=True))
    tables = {"key": "table", "values": [good["table"], str(tmp_path / "none.json")]}
    with pytest.raises(UserError, match=r"none\.json"):
        check_inputs(load_content(search=good, parameters={"table": tables}, allow_foreign=True))
    far = {"options": {"fast": {"objective": {"form": "target", "target": 1e-6}}}}
    with pytest.raises(UserError, match=r"objective\.target: 1e-06: the networks of space"):
        check_inputs(load_content(search=good, parameters={"target": far}, allow_foreign=True))
    kinds = {"kind": {"key": "attention", "values": ["full"]}}
    with pytest.raises(UserError, match=f"attention full: expected one of {', '.join(KINDS)}"):
        check_inputs(load_content(search=good, parameters=kinds, allow_foreign=True))
    nowhere = {**good, "data": {"root": str(tmp_path / "nowhere")}}
    with pytest.raises(UserError, match="nowhere"):
        check_inputs(load_content(search=nowhere, allow_foreign=True))


def test_every_data_set_is_read_as_its_trial_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = set()
    monkeypatch.setattr(
        "dcsnas.experiments.trial_inputs.read_data",
        lambda task, data: read.add((data.root.name, data.variant.cuhk03)),
    )
    folder = write_search_inputs(tmp_path / "inputs")
    search = small_search(folder, validate_every=1).model_dump(mode="json")
    search["data"]["variant"]["cuhk03"] = "labeled"
    root = {"key": "retrain.data.root", "values": ["one", "two"]}
    retrain = {"data": {"root": "none"}}
    sweep = load_content(
        search=search, parameters={"root": root}, retrain=retrain, allow_foreign=True
    )
    check_inputs(sweep)
    assert read == {("data", "labeled"), ("one", "detected"), ("two", "detected")}


def test_paths_are_those_of_where_the_sweep_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"space": "tiny", "table": "t.json", "data": {"root": "/people"}}
    kinds = {
        "own": {"space": "own.yaml", "retrain.data.root": "more"},
        "named": {"space": "fbnetv2"},
    }
    parameters = {
        "table": {"key": ["table"], "values": ["a/t.json", "/b.json"]},
        "kind": {"options": {**kinds, "other": {"data": {"root": "people"}, "loss.eta": 1}}},
    }
    given = {"search": {**search, "validate_every": 1}, "retrain": {"data": {"root": "r"}}}
    monkeypatch.chdir(tmp_path)
    sweep = with_absolute_paths(load_content(parameters=parameters, **given))
    here = str(tmp_path)
    content = sweep.model_dump(mode="json")
    assert content["search"]["space"] == "tiny"
    assert content["search"]["table"] == f"{here}/t.json"
    assert content["search"]["data"]["root"] == "/people"
    assert content["retrain"]["data"]["root"] == f"{here}/r"
    assert content["parameters"]["table"]["values"] == [f"{here}/a/t.json", "/b.json"]
    assert content["parameters"]["kind"]["options"] == {
        "own": {"space": f"{here}/own.yaml", "retrain.data.root": f"{here}/more"},
        "named": {"space": "fbnetv2"},
        "other": {"data": {"root": f"{here}/people"}, "loss.eta": 1},
    }
    assert with_absolute_paths(sweep) == sweep
    assert with_absolute_paths(load_content(search=given["search"])).retrain is None


def test_target_shares_span_what_the_space_can_reach(tmp_path: Path) -> None:
    inputs = write_search_inputs(tmp_path / "inputs")
    search = small_search(inputs, validate_every=1).model_dump(mode="json")
    space = micro_space()
    table = fake_table(space)
    labels = [decision.label for decision in space.decisions]
    networks = [
        architecture_of(space, dict(zip(labels, chosen, strict=True)), table=table, seed=0)
        for chosen in itertools.product(*(decision.options for decision in space.decisions))
    ]
    reached = [network.provenance.predicted_latency_ms or 0 for network in networks]
    ends = min(reached), max(reached)
    shares = {"key": "target_share", "values": [0, 0.25, 1]}
    sweep = load_content(search=search, parameters={"share": shares}, allow_foreign=True)
    found = [trial_inputs(sweep, one).config.objective for one in planned(sweep)]
    targets = [objective.target for objective in found if isinstance(objective, TargetConfig)]
    assert targets == pytest.approx([ends[0], ends[0] + 0.25 * (ends[1] - ends[0]), ends[1]])
    count = {**search, "objective": {"form": "target", "cost": "params", "target": 1, "rate": 9}}
    counted = load_content(search=count, parameters={"share": shares}, allow_foreign=True)
    objective: Any = trial_inputs(counted, {"share": 1}).config.objective
    assert (objective.target, objective.rate) == (max(one.params for one in networks), 9)
