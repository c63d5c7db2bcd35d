"""Every strategy by its name: a whole small search, what it writes, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import nni.nas.strategy as nni_strategies
import pytest
import torch
import yaml
from torch.distributions import Categorical

from dcsnas.config.environment import TORCHRUN
from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.search import SearchConfig, Strategy
from dcsnas.latency.expectation import expected_latency
from dcsnas.latency.table import save_table
from dcsnas.nn.weights import read_state
from dcsnas.search.cost_terms import refuse_unreachable
from dcsnas.search.derive import derive, read_probabilities
from dcsnas.search.recording import ProbabilityLog
from dcsnas.search.registry import RANDOM_PATHS, refuse_unused_cost
from dcsnas.search.run import search
from dcsnas.search.supernet import SUPER_MODULES, Supernet
from latency_fakes import fake_table, micro_space
from search_setup import small_search, write_search_inputs

SPACE = micro_space()
TABLE = fake_table(SPACE)
NAMES: tuple[str, ...] = get_args(Strategy)
NO_COST = {"form": "add", "weight": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("strategies"))


def run(folder: Path, name: str, strategy: str, **changes: Any) -> RunFolder:
    run_folder = RunFolder(folder / name)
    config = small_search(folder, **{"strategy": strategy, "objective": NO_COST, **changes})
    search(config, run_folder, allow_foreign=True, progress=False)
    return run_folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict[str, RunFolder]:
    """Return a finished search of 4 epochs by strategy, without a cost."""
    return {name: run(folder, name, name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_search_ends_and_a_network_is_derived(finished: dict[str, RunFolder], name: str) -> None:
    done = finished[name]
    metrics = lines(done.metrics)
    assert [line["epoch"] for line in metrics] == [1, 2, 3, 4]
    if not name.endswith(("random_oneshot", "random")):  # whose losses are of other paths
        assert metrics[-1]["weights/cross_entropy"] < metrics[0]["weights/cross_entropy"]
    records = read_probabilities(done.path)
    for record in records:
        for decision in SPACE.decisions:
            assert len(record[decision.label]) == len(decision.options)
            assert sum(record[decision.label]) == pytest.approx(1.0, abs=1e-6)
    found = derive(done.path)
    assert found.network == SPACE.architecture(found.provenance.choice)
    result = json.loads((done.path / "result.json").read_text())
    assert {"initial_latency_ms", "final_latency_ms"} <= set(result)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_decide_and_random_paths_do_not(
    finished: dict[str, RunFolder], name: str
) -> None:
    records = read_probabilities(finished[name].path)
    epochs = [record["epoch"] for record in records]
    last = records[-1]
    if name.endswith(("random_oneshot", "random")):
        assert epochs == [0, 1, 2, 3, 4, 5], "the choice comes after the last epoch"
        for decision in SPACE.decisions:
            share = 1 / len(decision.options)
            assert all(r[decision.label] == [share] * len(decision.options) for r in records[:-1])
            assert sorted(last[decision.label])[-2:] == [0.0, 1.0]
        assert "architecture/loss" not in lines(finished[name].metrics)[-1]
    else:
        assert epochs == [0, 1, 2, 3, 4]
        for decision in SPACE.decisions:
            assert last[decision.label] != records[0][decision.label]
        assert "architecture/loss" in lines(finished[name].metrics)[-1]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_probabilities_come_to_is_logged_every_epoch(
    finished: dict[str, RunFolder], name: str
) -> None:
    latency = expected_latency(SPACE, SPACE.size, TABLE)
    records = {r["epoch"]: r for r in read_probabilities(finished[name].path)}
    for line in lines(finished[name].metrics):
        if name in RANDOM_PATHS:
            assert not {"expected_latency_ms", "most_probable_latency_ms", "entropy"} & set(line)
            continue
        p = {d.label: torch.tensor(records[line["epoch"]][d.label]) for d in SPACE.decisions}
        best = {label: torch.eye(len(row))[row.argmax()] for label, row in p.items()}
        entropies = [Categorical(row).entropy() / math.log(len(row)) for row in p.values()]
        assert line["expected_latency_ms"] == pytest.approx(latency(p).item(), rel=1e-5)
        assert line["most_probable_latency_ms"] == pytest.approx(latency(best).item(), rel=1e-5)
        assert line["entropy"] == pytest.approx(torch.stack(entropies).mean().item(), rel=1e-5)


@pytest.mark.parametrize("torchrun", [False, True])
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("nni_")])
def test_nnis_strategies_refuse_several_processes(
    folder: Path, name: str, torchrun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {"LOCAL_WORLD_SIZE": "1", "RANK": "1", "WORLD_SIZE": "2"}
    for key, value in {**dict.fromkeys(TORCHRUN, "0"), **started}.items() if torchrun else ():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError) as caught:
        run(folder, "several", name, run={"device": "cpu", "devices": 1 if torchrun else 2})
    assert str(caught.value) == (
        f"strategy: {name} runs in one process, because NNI draws anew in each, and this run has 2;"
        " set run.devices to 1 and start it without torchrun, or take fbnetv2, darts or random"
    )
    assert not (folder / "several").exists()


def test_the_warm_up_is_nnis_too(finished: dict[str, RunFolder]) -> None:
    for name in ("nni_darts", "nni_gumbel_darts", "nni_proxyless"):
        before, first, second, *_ = read_probabilities(finished[name].path)
        label = SPACE.decisions[0].label
        assert before[label] == first[label] != second[label]


def test_proxyless_is_darts_on_spaces_of_widths(finished: dict[str, RunFolder]) -> None:
    """NNI's Proxyless samples the paths of layer choices alone, and there are none here."""
    kinds = []
    for strategy in (nni_strategies.Proxyless(), nni_strategies.DARTS()):
        supernet: Any = Supernet(SPACE)
        strategy.mutate_model(supernet)
        kinds.append([(n, type(m)) for n, m in supernet.named_modules()])
    assert kinds[0] == kinds[1]
    assert [kind for _, kind in kinds[0] if kind in SUPER_MODULES]
    runs = [read_probabilities(finished[n].path) for n in ("nni_proxyless", "nni_darts")]
    assert runs[0] == runs[1]


COSTS: list[dict[str, Any]] = [
    {"form": "add", "weight": 0.1},
    {"form": "mul"},
    {"form": "target", "cost": "macs", "target": 1.0},
]


@pytest.mark.parametrize("objective", COSTS)
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("nni_")])
def test_nnis_strategies_refuse_a_cost(folder: Path, name: str, objective: dict[str, Any]) -> None:
    config = small_search(folder, strategy=name, objective=objective)
    with pytest.raises(UserError) as caught:
        refuse_unused_cost(config)
    message = str(caught.value)
    assert message.startswith(f"strategy: {name} has no cost term that reaches the architecture")
    assert message.endswith("set objective to {form: add, weight: 0}, or take fbnetv2 or darts")


@pytest.mark.parametrize("objective", COSTS)
def test_random_refuses_all_but_a_target_that_it_can_draw_at(
    folder: Path, objective: dict[str, Any]
) -> None:
    config = small_search(folder, strategy="random", objective=objective)
    with pytest.raises(UserError) as caught:
        refuse_unused_cost(config)
    assert str(caught.value) == (
        "strategy: random search takes no cost into account but a target of latency or memory; set "
        "objective to {form: add, weight: 0}, {form: target, target: MS} or {form: target, cost: "
        "memory, target: MB}"
    )


def allowed(config: SearchConfig) -> None:
    refuse_unused_cost(config)
    refuse_unreachable(config.objective, SPACE, SPACE.size, TABLE)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_usable_is(folder: Path, name: str) -> None:
    allowed(small_search(folder, strategy=name, objective={"form": "add", "weight": 0}))
    if not name.startswith("nni_"):
        target = {"form": "target", "target": 0.24}
        allowed(small_search(folder, strategy=name, objective=target))


def test_a_refused_cost_leaves_no_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="has no cost term"):
        run(folder, "refused", "nni_darts", objective={})
    assert not (folder / "refused").exists()


@pytest.mark.parametrize("name", ["nni_darts", "nni_random_oneshot", "random"])
def test_a_stopped_search_that_cannot_be_continued_starts_over(
    folder: Path,
    finished: dict[str, RunFolder],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = ProbabilityLog.on_train_epoch_end

    def die_later(self: ProbabilityLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProbabilityLog, "on_train_epoch_end", die_later)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(folder, f"stopped_{name}", name)
    monkeypatch.undo()
    stopped = RunFolder(folder / f"stopped_{name}")
    assert len(lines(stopped.metrics)) == 2
    assert len(read_probabilities(stopped.path)) == 4
    told = f"{stopped.path}: {name} cannot continue a search; it starts over\n"
    assert told not in capsys.readouterr().out
    again = run(folder, f"stopped_{name}", name)
    assert told in capsys.readouterr().out
    assert [line["epoch"] for line in lines(again.metrics)] == [1, 2, 3, 4]
    assert lines(again.metrics) == lines(finished[name].metrics)
    expected = read_probabilities(finished[name].path)
    found = read_probabilities(again.path)
    assert [r["epoch"] for r in found] == [r["epoch"] for r in expected]
    assert found == expected


def test_a_target_search_ends_there_and_is_derived_there(folder: Path) -> None:
    """The real loop, 39 architecture steps: the expected latency ends at the target."""
    settings: dict[str, Any] = {
        "objective": {"form": "target", "target": 0.24},
        "epochs": 40,
        "architecture": {"lr": 0.05, "warmup_epochs": 1, "weight_decay": 0.0},
    }
    whole = run(folder, "target", "fbnetv2", **settings)
    last = lines(whole.metrics)[-1]
    assert last["expected_latency_ms"] == pytest.approx(0.24, rel=0.02)
    assert last["multiplier"] != 0
    found = derive(whole.path).provenance
    assert found.target_ms == 0.24
    assert (found.predicted_latency_ms or 1) <= 0.24
    assert derive(whole.path, target_ms=0.3).provenance.target_ms == 0.3


def test_a_resumed_target_search_keeps_its_multiplier(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"objective": {"form": "target", "target": 0.24}, "epochs": 5}
    whole = run(folder, "whole", "fbnetv2", **settings)
    log = ProbabilityLog.on_train_epoch_end

    def die_later(self: ProbabilityLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProbabilityLog, "on_train_epoch_end", die_later)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(folder, "target_stopped", "fbnetv2", **settings)
    monkeypatch.undo()
    resumed = run(folder, "target_stopped", "fbnetv2", **settings)
    assert lines(resumed.metrics) == lines(whole.metrics)


def test_other_costs_are_logged_beside_the_latency(folder: Path) -> None:
    done = run(folder, "macs", "fbnetv2", objective={"cost": "macs", "weight": 50.0}, epochs=8)
    metrics = lines(done.metrics)
    assert {"expected_macs", "expected_latency_ms", "cost_term"} <= set(metrics[-1])
    assert metrics[-1]["expected_macs"] < metrics[1]["expected_macs"]
    assert "multiplier" not in metrics[-1]


@pytest.mark.parametrize("name", ["fbnetv2", "nni_gumbel_darts", "random"])
def test_strategies_choose_the_kind_of_attention(folder: Path, tmp_path: Path, name: str) -> None:
    space = micro_space(attention={"kind": ["none", "sa", "dcs"]})
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space.file.model_dump(mode="json")))
    save_table(tmp_path / "table.json", fake_table(space).file)
    files = {"space": str(tmp_path / "space.yaml"), "table": str(tmp_path / "table.json")}
    done = run(folder, f"kinds_{name}", name, **files)
    records = read_probabilities(done.path)
    assert records[0]["a0_kind"] == pytest.approx([1 / 3] * 3, abs=5e-3)
    assert records[-1]["a0_kind"] != records[0]["a0_kind"]
    found = derive(done.path)
    assert found.provenance.choice["a0_kind"] in ("none", "sa", "dcs")


def test_the_neck_lies_beside_the_supernet(finished: dict[str, RunFolder]) -> None:
    state = read_state(finished["fbnetv2"].path / "supernet.safetensors")
    assert state["neck.classifier.weight"].shape == (8, SPACE.feature_dim)
    assert isinstance(state["neck.norm.running_mean"], torch.Tensor)
