"""A real cross-validation of eta on a tiny set: what it trains, measures, continues and refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.config.tuning import FIRST_EPOCH_OF_BOUND, TuneEtaConfig
from dcsnas.data.folds import hold_out
from dcsnas.data.reid import read_reid
from dcsnas.nn.build import build
from dcsnas.nn.weights import WeightsHeader, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.tasks.task import evaluate
from dcsnas.training import tuning
from dcsnas.training.checkpoint import LastCheckpoint
from dcsnas.training.eta_choice import EtaChoice
from dcsnas.training.train import train
from dcsnas.training.trainer import EpochLog
from dcsnas.training.tuning import tune_eta
from latency_fakes import fake_table, micro_space
from reid_data import SIZE, write_reid_set

SPACE = micro_space()
ARCHITECTURE = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
RETRAIN = {
    "epochs": 3,
    "batch": {"identities": 2, "images": 2},
    "augment": {"pad": 1},
    "loss": {"ib_size": [4, 2], "eta_warmup": 0.0},
    "optimizer": {"name": "adam", "lr": 0.01},
    "run": {"seed": 5, "threads": 1},
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reid_set(tmp_path_factory.mktemp("tuning") / "people", identities=8, images=6)


def config_of(people: Path, **changes: Any) -> TuneEtaConfig:
    data = {"root": str(people), "workers": 0}
    tried = {"etas": [3.0, 0.0], "folds": 2}
    return validate(TuneEtaConfig, {"data": data, **RETRAIN, **tried, **changes}, "test")


def run_tuning(folder: Path, config: TuneEtaConfig, said: list[str] | None = None) -> EtaChoice:
    say = (said if said is not None else []).append
    return tune_eta(config, ARCHITECTURE, RunFolder(folder), say=say, progress=False)


@pytest.fixture(scope="module")
def tuned(people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EtaChoice]:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return folder, run_tuning(folder, config_of(people))


def test_every_score_is_that_of_a_retraining_without_its_fold(
    people: Path, tuned: tuple[Path, EtaChoice], tmp_path: Path
) -> None:
    part = hold_out(read_reid(people), folds=2, fold=1, seed=5)
    data = {"root": str(people), "workers": 0}
    loss = {**RETRAIN["loss"], "eta": 3.0}
    config = validate(RetrainConfig, {"data": data, **RETRAIN, "loss": loss}, "test")
    alone = train(
        config,
        ARCHITECTURE,
        RunFolder(tmp_path / "one"),
        stage="retrain",
        data=part,
        progress=False,
    )
    expected = evaluate(
        alone.weights, part, workers=0, ib_size=(4, 2), ib_temperature=config.loss.ib_temperature
    ).record()
    (score,) = (s for s in tuned[1].scores if (s.eta, s.fold) == (3.0, 2))
    assert score.map == pytest.approx(expected["map"], abs=1e-9)
    assert score.rank1 == pytest.approx(expected["rank1"], abs=1e-9)
    assert score.ibb == pytest.approx(expected["ibb"], abs=1e-9)
    assert score.ib_loss == pytest.approx(expected["ib_loss"], abs=1e-9)
    assert expected["counts"] == {
        "train": 24, "query": 8, "gallery": 16, "train_identities": 4, "query_identities": 4,
    }  # fmt: skip


def test_runs_differ_in_eta_and_fold_alone(tuned: tuple[Path, EtaChoice]) -> None:
    configs = {
        (fold, eta): yaml.safe_load((tuned[0] / f"fold-{fold}/eta-{eta}/config.yaml").read_text())
        for fold in (1, 2)
        for eta in (0, 3)
    }
    digests = set()
    for (fold, eta), content in configs.items():
        assert content["loss"].pop("eta") == eta
        digests.add((fold, content["inputs"].pop("data")))
        assert content == configs[1, 0]
    assert configs[1, 0]["run"]["seed"] == 5
    assert len(digests) == len({digest for _, digest in digests}) == 2


def test_eta_reaches_the_training(tuned: tuple[Path, EtaChoice]) -> None:
    for fold in (1, 2):
        without, with_bound = (
            json.loads(
                (tuned[0] / f"fold-{fold}/eta-{eta}/metrics.jsonl").read_text().split("\n")[2]
            )
            for eta in (0, 3)
        )
        assert abs(with_bound["ibb"]) > 1e-3
        terms = with_bound["cross_entropy"] + with_bound["triplet"]
        assert with_bound["loss"] == pytest.approx(terms + 3 * with_bound["ibb"], rel=1e-4)
        assert without["loss"] == pytest.approx(without["cross_entropy"] + without["triplet"])


def test_two_epochs_do_not_know_the_bound_and_three_do(tuned: tuple[Path, EtaChoice]) -> None:
    log = (tuned[0] / "fold-1" / "eta-3" / "metrics.jsonl").read_text().splitlines()
    bounds = [json.loads(line)["ibb"] for line in log]
    assert [bound != 0 for bound in bounds] == [e >= FIRST_EPOCH_OF_BOUND for e in (1, 2, 3)]


def test_files_hold_the_choice_and_its_conditions(tuned: tuple[Path, EtaChoice]) -> None:
    folder, choice = tuned
    record = json.loads((folder / "eta.json").read_text())
    assert record["chosen"] == choice.chosen
    assert record["conclusion"] == choice.conclusion()
    assert [summary["eta"] for summary in record["etas"]] == [0, 3]
    assert {name: record[name] for name in ("folds", "share", "seed", "epochs")} == {
        "folds": 2, "share": 1, "seed": 5, "epochs": 3,
    }  # fmt: skip
    assert record["data"]["name"] == "people"
    assert record["data"]["train_identities"] == 8
    with (folder / "eta.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{**row, "fold": int(row["fold"])} for row in rows] == [
        {**{name: str(value) for name, value in run.items()}, "fold": run["fold"]}
        for run in record["runs"]
    ]
    assert [(row["fold"], row["eta"]) for row in rows] == [
        *(("1", "0.0"), ("1", "3.0"), ("2", "0.0"), ("2", "3.0")),
    ]
    assert not list(folder.rglob("last.ckpt"))
    assert len(list(folder.rglob("model.safetensors"))) == 4


def test_a_stopped_tuning_continues_to_the_same_end(
    people: Path, tuned: tuple[Path, EtaChoice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, log, ended = tmp_path / "run", EpochLog.on_train_epoch_end, []

    def die_later(self: EpochLog, trainer: Any, module: Any) -> None:
        if len(ended) == 4:  # the second epoch of the second run
            said.extend(c.continued for c in trainer.callbacks if isinstance(c, LastCheckpoint))
            raise SystemExit(143)  # as a run ends that was asked to stop
        ended.append(trainer.current_epoch)
        log(self, trainer, module)

    monkeypatch.setattr(EpochLog, "on_train_epoch_end", die_later)
    said: list[str] = []
    with pytest.raises(SystemExit, match="143"):
        run_tuning(folder, config_of(people), said)
    assert said[-1] == f"to be continued in {folder}", "all runs, not this one"
    assert ended == [0, 1, 2, 0]
    assert (folder / "fold-1" / "eta-0" / "metrics.json").exists()
    assert (folder / "fold-1" / "eta-3" / "last.ckpt").exists()
    assert not (folder / "eta.json").exists()

    def count(self: EpochLog, trainer: Any, module: Any) -> None:
        ended.append(trainer.current_epoch)
        log(self, trainer, module)

    said.clear()
    monkeypatch.setattr(EpochLog, "on_train_epoch_end", count)
    assert run_tuning(folder, config_of(people), said) == tuned[1]
    assert ended == [0, 1, 2] * 4, "no epoch ran twice"
    assert said[:2] == ["1 of 4 runs are finished already", "run 2 of 4: fold 1, eta 3"]
    for name in ("eta.json", "eta.csv"):
        assert (folder / name).read_text() == (tuned[0] / name).read_text()


def test_a_run_that_was_killed_before_it_was_measured_is_only_measured(
    people: Path, tuned: tuple[Path, EtaChoice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "evaluate", die)
    with pytest.raises(KeyboardInterrupt):
        run_tuning(tmp_path / "run", config_of(people))
    monkeypatch.undo()
    weights = tmp_path / "run" / "fold-1" / "eta-0" / "model.safetensors"
    trained = weights.read_bytes()
    assert run_tuning(tmp_path / "run", config_of(people)) == tuned[1]
    assert weights.read_bytes() == trained


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"etas": [0, 1]}, r"etas: there \[0\.0, 3\.0\], now \[0\.0, 1\.0\]"),
        ({"folds": 4}, "folds: there 2, now 4"),
        ({"share": 0.5}, r"share: there 1\.0, now 0\.5"),
        ({"epochs": 4}, "epochs: there 3, now 4"),
    ],
)
def test_another_tuning_in_the_folder_is_refused(
    people: Path, tuned: tuple[Path, EtaChoice], changes: dict[str, Any], expected: str
) -> None:
    before = sorted(tuned[0].rglob("*"))
    with pytest.raises(UserError, match=rf"another configuration:\n.*{expected}"):
        run_tuning(tuned[0], config_of(people, **changes))
    assert sorted(tuned[0].rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folds": 5}, "5 folds need at least 10 training identities, 2 each, and there are 8"),
        ({"batch": {"identities": 5}}, r"identities is 5, but 4 identities are left to train on"),
        ({"run": {"devices": 2, "device": "cpu"}}, r"in one process; set run\.devices=1"),
    ],
)
def test_what_cannot_be_run_is_refused_before_there_is_a_folder(
    people: Path, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        run_tuning(tmp_path / "run", config_of(people, **changes))
    assert not (tmp_path / "run").exists()


def test_first_weights_that_do_not_fit_are_refused_before_there_is_a_folder(
    people: Path, tmp_path: Path
) -> None:
    other = architecture_of(SPACE, smallest_choice(SPACE), table=fake_table(SPACE), seed=0)
    ones = (1.0, 1.0, 1.0)
    header = WeightsHeader(
        stage="pretrain", architecture=other, space_digest=SPACE.digest, num_classes=2, input=SIZE,
        mean=ones, std=ones,
    )  # fmt: skip
    start = tmp_path / "other.safetensors"
    save_weights(start, build(other.network).state_dict(), header)
    with pytest.raises(UserError, match="weights of another architecture"):
        tune_eta(config_of(people), ARCHITECTURE, RunFolder(tmp_path / "run"), start=start)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"etas": [0.1]}, r"etas: 1 value leaves nothing to choose; give at least two"),
        ({"etas": [0, -0.1]}, r"etas\[1\]: .*greater than or equal to 0 \(given: -0\.1\)"),
        ({"etas": [0, 0.1, 1, 0.1]}, r"etas: 0\.1 is given more than once"),
        ({"etas": [0, float("nan")]}, r"etas\[1\]: .*finite number"),
        ({"epochs": 1}, "has an effect from epoch 2 on, so every eta would train the same"),
        ({"folds": 1}, r"folds: .*greater than or equal to 2 \(given: 1\)"),
        ({"share": 0}, r"share: .*greater than 0"),
        ({"validation": {"every": 1}}, "the identities that score eta would choose the epoch"),
    ],
)
def test_a_configuration_that_compares_nothing_is_refused(
    people: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        config_of(people, **changes)


def test_a_record_that_was_edited_is_named(
    people: Path, tuned: tuple[Path, EtaChoice], tmp_path: Path
) -> None:
    run = next(tuning._runs(config_of(people), [read_reid(people)], RunFolder(tmp_path)))
    run.folder.path.mkdir(parents=True)
    run.record.write_text('{"map": 1.0}')
    with pytest.raises(UserError, match=r"metrics\.json: not what .*; delete it to measure"):
        run.score()
