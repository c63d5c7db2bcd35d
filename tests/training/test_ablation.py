"""Real ablations of tiny networks: what they train, measure, continue and refuse."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from dcsnas.config.ablation import AblateConfig, ablation_model
from dcsnas.config.errors import UserError
from dcsnas.config.plugins import GRACE_S
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import read_reid
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.space import load_space
from dcsnas.tasks.task import evaluate
from dcsnas.training.ablation import runs as ablation_runs
from dcsnas.training.ablation.runs import ablate
from dcsnas.training.ablation.settings import read_ablation, variants_of
from dcsnas.training.ablation.table import AblationTable
from dcsnas.training.train import train
from latency_fakes import micro_space
from reid_data import write_reid_set

SIZE = (32, 16)
RECIPE = {
    "data": {"root": "people", "workers": 0},
    "input": list(SIZE),
    "epochs": 3,
    "batch": {"identities": 2, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2], "eta": 0.0, "eta_warmup": 0.0, "ib_temperature": 0.2},
    "optimizer": {"name": "adam", "lr": 0.01},
    "run": {"seed": 5, "threads": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a space and a recipe."""
    folder = tmp_path_factory.mktemp("ablation")
    write_reid_set(folder / "people", identities=6, images=4)
    space = micro_space().file.model_dump(mode="json")
    (folder / "micro.yaml").write_text(yaml.safe_dump(space))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def content(**changes: Any) -> dict[str, Any]:
    variants = {
        "none": {"network": "micro.yaml", "attention": "none"},
        "dcs_ibb": {"network": "micro.yaml", "attention": "dcs", "set": {"loss.eta": 5.0}},
    }
    return {"recipe": "recipe.yaml", "seeds": [0, 1], "timed_rounds": 0, "variants": variants,
            **changes}  # fmt: skip


def config_of(**changes: Any) -> AblateConfig:
    Path("ablation.yaml").write_text(yaml.safe_dump(content(**changes), sort_keys=False))
    return read_ablation("ablation.yaml")


def run_ablation(folder: Path, config: AblateConfig, **options: Any) -> AblationTable:
    return ablate(config, RunFolder(folder), progress=False, say=options.pop("say", len), **options)


@pytest.fixture(scope="module")
def finished(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AblationTable]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return folder, run_ablation(folder, config_of())


def test_every_run_is_a_retraining_by_the_recipe(
    finished: tuple[Path, AblationTable], tmp_path: Path
) -> None:
    folder, table = finished
    space = load_space("micro.yaml", "dcs")
    changed = {**RECIPE, "loss": {**RECIPE["loss"], "eta": 5.0}}
    changed["run"] = {**RECIPE["run"], "seed": 1}
    config = validate(RetrainConfig, changed, "test")
    architecture = space.described(largest_choice(space), SIZE)
    alone = train(
        config, architecture, RunFolder(tmp_path / "one"), stage="retrain", progress=False
    )
    ours, theirs = load_file(folder / "dcs_ibb/seed-1/model.safetensors"), load_file(alone.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rules = {"ib_size": (4, 2), "ib_temperature": 0.2}
    found = evaluate(alone.weights, read_reid(Path("people")), device="cpu", workers=0, **rules)
    row = table.values("dcs_ibb", "map"), table.values("dcs_ibb", "ibb")
    assert [values[1] for values in row] == [
        found.percentages()["map"], pytest.approx(found.information.ibb, rel=1e-5)
    ]  # fmt: skip


def test_several_at_once_come_to_the_same(
    finished: tuple[Path, AblationTable], tmp_path: Path
) -> None:
    _, table = finished
    counted: list[tuple[int, int]] = []
    again = run_ablation(
        tmp_path / "run", config_of(), jobs=2, report=lambda *done: counted.append(done)
    )
    assert again.runs() == table.runs()
    assert counted[-1] == (12, 12)  # epochs of four runs


def test_what_was_stopped_is_continued_and_more_may_be_asked_for(
    finished: tuple[Path, AblationTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, table = finished
    folder, said = tmp_path / "run", []

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    one = config_of(seeds=[0])
    with monkeypatch.context() as patch:
        patch.setattr(ablation_runs, "evaluate", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_ablation(folder, one)
    assert (folder / "none/seed-0/model.safetensors").exists(), "it was stopped after its training"
    assert len(run_ablation(folder, one, say=said.append).scores) == 2
    assert "none, seed 0" in said
    assert run_ablation(folder, config_of(), say=said.append).runs() == table.runs()
    assert "2 of 4 runs are finished already" in said
    wider = content()["variants"] | {"sa": {"network": "micro.yaml", "attention": "sa"}}
    assert len(run_ablation(folder, config_of(variants=wider, seeds=[0])).scores) == 3
    wider["none"]["set"] = {"optimizer.lr": 0.02}
    with pytest.raises(
        UserError, match=r"none: holds a run with another configuration:\n.*\n?"
    ) as e:
        run_ablation(folder, config_of(variants=wider))
    assert "set.optimizer.lr: there None, now 0.02" in str(e.value)


def test_steps_are_timed_without_training(tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    config = config_of(seeds=[], timed_rounds=3)
    table = run_ablation(tmp_path / "run", config, report=lambda *done: counted.append(done))
    assert counted[-1] == (3, 3)
    times = json.loads((tmp_path / "run/step_times.json").read_text())["ms"]
    assert [len(times[name]) for name in ("none", "dcs_ibb")] == [3, 3]
    plain, attentive = table.rows()
    assert (plain["time_ratio"], plain["seeds"], plain["map_mean"]) == (1.0, 0, None)
    assert attentive["time_ratio"] > 0.5
    run_ablation(tmp_path / "run", config)
    again = json.loads((tmp_path / "run/step_times.json").read_text())["ms"]
    assert again == times, "a folder's times are measured once"


def test_a_variant_starts_from_weights_of_others(tmp_path: Path) -> None:
    space = load_space("micro.yaml", "none")
    plain = space.described(largest_choice(space), SIZE)
    torch.manual_seed(3)
    backbone = build(plain.network)
    config = validate(RetrainConfig, RECIPE, "test")
    header = header_of("pretrain", plain, config.data, SIZE, num_classes=3, task="classify")
    save_weights(tmp_path / "backbone.safetensors", backbone.state_dict(), header)
    given = {"network": "micro.yaml", "attention": "none",
             "weights": str(tmp_path / "backbone.safetensors")}  # fmt: skip
    changed = config_of(variants={"from": given}, seeds=[0])
    run_ablation(tmp_path / "run", changed)
    first = load_file(tmp_path / "run/from/first.safetensors")
    assert torch.equal(first["layers.0.conv.weight"], backbone.state_dict()["layers.0.conv.weight"])
    trained = load_file(tmp_path / "run/from/seed-0/model.safetensors")
    assert not torch.equal(trained["backbone.layers.0.conv.weight"], first["layers.0.conv.weight"])


def test_a_variant_may_be_a_searched_network(tmp_path: Path) -> None:
    space = load_space("micro.yaml", "sa")
    small = space.described(smallest_choice(space), SIZE)
    save_architecture(tmp_path / "architecture.yaml", small)
    variants = {"mine": {"network": str(tmp_path / "architecture.yaml")}}
    (found,) = variants_of(config_of(variants=variants))
    assert found.architecture.network == small.network
    variants["mine"]["attention"] = "dcs"
    with pytest.raises(UserError, match=r"variants.mine: attention: .* is one network"):
        variants_of(config_of(variants=variants))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "plain"}, "baseline: 'plain' is none of none, dcs_ibb"),
        ({"seeds": [1, 1]}, "seeds: 1 is given more than once"),
        ({"recipe": 3}, "ablation.yaml: recipe: expected a path, a shipped name or a mapping"),
        ({"recipe": "retrain_cpus"}, "no configuration called 'retrain_cpus'"),
        ({"set": {"epoch": 3}}, "recipe.epoch: unknown key; did you mean 'epochs'?"),
        ({"variants": {}}, "variants: "),
        ({"variants": {"a/b": {"network": "tiny"}}}, "variants.a/b"),
        ({"variants": {"a": {"network": "tiny", "arguments": {"learn": "length"}}}},
         "variants.a: arguments are of a kind; give attention as well"),
        ({"variants": {"a": {"network": "tiny", "set": {"data.root": "x"}}}},
         "variants.a.set: data.root: the same for all variants; remove it"),
        ({"variants": {"a": {"network": "tiny", "set": {"loss.etta": 1}}}},
         "variants.a.set: loss.etta: unknown key; did you mean 'eta'?"),
        ({"variants": {"a": {"network": "tiny", "against": "b"}}},
         "variants.a.against: 'b' is none of a"),
        ({"set": {"validation.every": 1}}, "validation.every is 1 and hold_out 0"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        config_of(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"network": "tinny"}, "variants.a: no search space called 'tinny'"),
        ({"network": "micro.yaml", "attention": "dsc"}, "variants.a: --attention dsc: "),
        ({"network": "micro.yaml", "weights": "no.pt"}, "variants.a.weights: no.pt: no such file"),
        ({"network": "micro.yaml", "weights": "published"}, "variants.a.weights: micro: nobody "),
        ({"network": "micro.yaml", "set": {"batch.identities": 9}}, "batch.identities is 9"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    variant: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        run_ablation(tmp_path / "run", config_of(variants={"a": variant}))
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_edited_record_is_named(finished: tuple[Path, AblationTable]) -> None:
    record = finished[0] / "none" / "seed-0" / "metrics.json"
    before = record.read_text()
    try:
        record.write_text('{"map": "high"}')
        with pytest.raises(UserError, match=r"metrics\.json: not what dcsnas ablate writes"):
            run_ablation(finished[0], config_of())
    finally:
        record.write_text(before)


@pytest.mark.slow
def test_processes_end_with_the_command_and_it_goes_on(
    finished: tuple[Path, AblationTable], tmp_path: Path
) -> None:
    _, table = finished
    config_of()
    command = [
        *(sys.executable, "-m", "dcsnas", "ablate", "ablation.yaml", "--jobs", "2"),
        *("--out", str(tmp_path / "run")),
    ]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    while not list((tmp_path / "run").glob("*/seed-*/metrics.jsonl")):
        assert started.poll() is None, "it ended before it was killed"
        time.sleep(0.05)
    children = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(children, timeout=GRACE_S + 15)
    assert not alive
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "dcs_ibb against none" in done.stdout
    record = json.loads((tmp_path / "run/ablation.json").read_text())
    assert record["runs"] == table.runs()


def test_weights_of_all_variants_are_given_once() -> None:
    given = {"network": "mobilenetv2_100"}
    variants = {
        "all": given,
        "own": {**given, "weights": "b.pt"},
        "new": {**given, "weights": None},
    }
    content = {"recipe": {"data": {"root": "people"}}, "weights": "a.pt", "variants": variants}
    config = validate(ablation_model(content), content, "ablation")
    assert [one.weights for one in config.variants.values()] == ["a.pt", "b.pt", None]
    again = config.model_dump(mode="json")
    assert validate(ablation_model(again), again, "config.yaml") == config
