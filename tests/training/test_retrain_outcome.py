"""Which weights a retraining ends with: averaged, of the best epoch, and the same when stopped."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.data.folds import hold_out
from dcsnas.data.reid import ReidData, read_reid
from dcsnas.nn.weights import ChosenEpoch, read_header, read_state
from dcsnas.tasks.task import evaluate
from dcsnas.training.best_epoch import Best, BestEpoch
from dcsnas.training.module import ONE, TaskModule
from dcsnas.training.train import Trained
from dcsnas.training.trainer import EpochLog
from outcome_setup import (
    EVERYTHING,
    State,
    copy_of,
    different,
    metrics,
    run,
)
from reid_data import write_reid_set


def scored_data(folder: Path, share: float) -> ReidData:
    data = read_reid(folder / "people")
    return hold_out(data, folds=round(1 / share), fold=0, seed=0) if share else data


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images so noisy that no score comes near 100 in a few epochs."""
    root = tmp_path_factory.mktemp("hard")
    write_reid_set(root / "people", identities=24, images=6, noise=60)
    return root


@pytest.mark.parametrize(
    ("share", "on"), [(0.0, "test"), (0.25, "held-out identities")], ids=["test", "held out"]
)
@pytest.mark.parametrize("ema", [None, 0.8], ids=["last", "averaged"])
def test_weights_are_those_of_the_best_epoch(
    hard: Path, share: float, on: Any, ema: float | None
) -> None:
    # a rate at which the score rises and falls
    optimizer = {"name": "sgd", "lr": 0.1, "schedule": "constant", "weight_decay": 0.0}
    validation = {"every": 1, "hold_out": share}
    settings = {"epochs": 8, "ema": ema, "optimizer": optimizer, "validation": validation}
    result = run(hard, f"best_{share}_{ema}", **settings)
    scores = [record["validation/map"] for record in metrics(result)]
    assert len(set(scores)) > 1
    best = max(scores)
    chosen = ChosenEpoch(
        after_epochs=scores.index(best) + 1, metric="map", score=best, selected_on=on
    )
    assert result.chosen_epoch == read_header(result.weights).chosen_epoch == chosen
    evaluation = evaluate(result.weights, scored_data(hard, share), workers=0)
    assert 100 * evaluation.retrieval.map == pytest.approx(best, abs=1e-5)
    assert evaluation.record()["chosen_epoch"] == {
        "after_epochs": chosen.after_epochs, "metric": "map", "score": best, "selected_on": on,
    }  # fmt: skip


def test_held_out_identities_are_not_trained_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    step = TaskModule.training_step

    def watched(self: TaskModule, batch: Any, batch_idx: int) -> Tensor:
        names: Any = self.names[ONE]
        seen.update(Path(names[i]).name for i in batch.indices.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TaskModule, "training_step", watched)
    result = run(folder, "seen", validation={"every": 5, "hold_out": 0.25})
    part = scored_data(folder, 0.25)
    assert seen == {sample.path.name for sample in part.train}
    assert not seen & {sample.path.name for sample in [*part.query, *part.gallery]}
    assert read_header(result.weights).num_classes == 9


def test_scores_come_every_few_epochs_and_after_the_last(folder: Path) -> None:
    result = run(folder, "every", validation={"every": 2})
    assert ["validation/map" in record for record in metrics(result)] == [
        *(False, True, False, True, True),
    ]


def test_scoring_leaves_the_training_as_it_is(folder: Path) -> None:
    """Held-out noise aside, the last epoch is what it is without scores."""
    plain = run(folder, "unscored", classifier_epochs=2)
    module: list[State] = []

    def keep(self: TaskModule) -> None:
        module.append(copy_of(self.network))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskModule, "on_train_end", keep)
        run(folder, "scored", classifier_epochs=2, validation={"every": 1})
    assert not different(read_state(plain.weights), module[0])


def test_first_of_equal_scores_is_kept() -> None:
    networks: list[Any] = [torch.nn.Linear(1, 1) for _ in range(4)]
    scores = [50.0, 70.0, 70.0, 60.0]
    given = iter(scores)
    best, copy = (
        BestEpoch(1, "map", network=iter(networks).__next__, score_of=lambda *_: next(given))
        for _ in range(2)
    )
    for epoch, score in enumerate(scores):
        module: Any = SimpleNamespace(current_epoch=epoch, device=torch.device("cpu"))
        assert best.score(module) == score
    assert best.best is not None
    assert (best.best.epoch, best.best.score) == (1, 70.0)
    assert not different(best.best.weights, copy_of(networks[1]))
    copy.load_state_dict(best.state_dict())
    assert isinstance(copy.best, Best)
    assert vars(copy.best) == vars(best.best)


@pytest.fixture(scope="module")
def finished(folder: Path) -> Trained:
    return run(folder, "finished", **EVERYTHING)


@pytest.mark.parametrize("epoch", [1, 2])
def test_stopped_run_ends_as_the_uninterrupted_one(
    folder: Path, finished: Trained, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Average, centres, bound, mixup and scores; stopped between a score and its checkpoint."""
    log = EpochLog.on_train_epoch_end

    def stop(self: EpochLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt

    name = f"stopped{epoch}"
    monkeypatch.setattr(EpochLog, "on_train_epoch_end", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(folder, name, **EVERYTHING)
    monkeypatch.undo()
    assert not (folder / name / "model.safetensors").exists()
    resumed = run(folder, name, **EVERYTHING)
    assert resumed.weights.read_bytes() == finished.weights.read_bytes()
    assert metrics(resumed) == metrics(finished)
    again = run(folder, name, **EVERYTHING)
    assert again.weights.read_bytes() == finished.weights.read_bytes(), "a finished run again"


def test_data_that_was_read_replaces_the_root(folder: Path) -> None:
    part = scored_data(folder, 0.25)
    nowhere = {"data": {"root": str(folder / "nowhere"), "workers": 0}, "epochs": 1}
    result = run(folder, "given", part, **nowhere)
    assert read_header(result.weights).num_classes == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": {"hold_out": 0.2}}, "hold_out is 0.2, but every is 0, so the held-out"),
        (
            {"validation": {"every": 1, "hold_out": 0.3}},
            "hold_out is 0.3, which is not one part of a whole number of parts; set it to 0.3333,"
            " one of 3, or another",
        ),
        ({"validation": {"every": 1, "hold_out": 0.6}}, "validation.hold_out: .* 0.5"),
        ({"ema": 1.0}, "ema: .* less than 1"),
        ({"loss": {"center": -1.0}}, "loss.center: .* greater than or equal to 0"),
        ({"augment": {"erase_value": "grey"}}, "augment.erase_value: .* 'mean' or 'bot'"),
    ],
)
def test_mistakes_are_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(folder, "mistaken", **changes)
    assert not (folder / "mistaken").exists()


def test_set_that_cannot_be_scored_is_refused(folder: Path) -> None:
    whole = read_reid(folder / "people")
    one_camera = [s for s in whole.gallery if s.camera == 1]
    data = ReidData(**{**vars(whole), "probes": tuple(one_camera), "references": tuple(one_camera)})
    with pytest.raises(UserError, match="no query has a match from another camera"):
        run(folder, "unscorable", data, validation={"every": 1})
    assert not (folder / "unscorable").exists()
    run(folder, "unscored_one_camera", data, epochs=1)


def test_another_test_set_is_another_run(folder: Path) -> None:
    whole = read_reid(folder / "people")
    run(folder, "same", whole, epochs=1, validation={"every": 1})
    other = ReidData(**{**vars(whole), "probes": whole.query[:-2]})
    with pytest.raises(UserError, match=r"inputs\.scored.*: there"):
        run(folder, "same", other, epochs=1, validation={"every": 1})


def test_low_precision_trains_with_everything_on(folder: Path) -> None:
    result = run(folder, "bf16", run={"precision": "bf16-mixed", "device": "cpu"}, **EVERYTHING)
    for record in metrics(result):
        assert all(torch.isfinite(torch.tensor(float(value))) for value in record.values())
    weights = read_state(result.weights)
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float32}
    full = metrics(run(folder, "full_precision", run={"device": "cpu"}, **EVERYTHING))
    for name in ("cross_entropy", "triplet", "center"):
        assert metrics(result)[0][name] == pytest.approx(full[0][name], rel=0.1)
        assert metrics(result)[0][name] != full[0][name]
