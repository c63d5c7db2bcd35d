"""Which weights a retraining ends with: averaged, of the best epoch, and the same when stopped."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import IMAGENET_MEAN, IMAGENET_STD, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.augment import Normalize
from dcsnas.data.folds import hold_out
from dcsnas.data.loading import ImageSet
from dcsnas.data.reid import ReidData, read_reid
from dcsnas.evaluation.evaluate import evaluate, load_reid_network
from dcsnas.nn.recalibrate import recalibrate
from dcsnas.nn.weights import ChosenEpoch, read_header, read_state
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.sampling import largest_choice
from dcsnas.training.fitting import EpochLog
from dcsnas.training.reid import ReidModule
from dcsnas.training.retrain import RetrainResult, retrain
from dcsnas.training.selecting import Best, BestEpoch
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set

MASKED = micro_space()
SPACE = MASKED.with_attention("sa")
ARCHITECTURE, WITH_MASKS = (
    architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    for space in (SPACE, MASKED)
)
UNCHANGED = {"pad": 0, "flip": 0.0, "erase": 0.0}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
EVERYTHING = {
    "loss": {"ib_size": [4, 2], "eta": 0.5, "eta_warmup": 0.0, "center": 0.01},
    "augment": {"pad": 1, "flip": 0.5, "erase": 0.5, "erase_value": "bot", "mixup": 0.3},
    "ema": 0.8,
    "validation": {"every": 2, "hold_out": 0.25},
    "classifier_epochs": 1,
}

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outcome")
    write_reid_set(root / "people", identities=12, images=6)
    return root


def run(
    folder: Path,
    name: str,
    given: ReidData | None = None,
    *,
    architecture: ArchitectureFile = ARCHITECTURE,
    **changes: Any,
) -> RetrainResult:
    content = {
        "data": {"root": str(folder / "people"), "workers": 0},
        "epochs": 5,
        "batch": {"identities": 4, "images": 2},
        "augment": {"pad": 1},
        "loss": {"ib_size": [4, 2]},
        "optimizer": {"name": "sgd", "lr": 0.02, "schedule": "constant"},
        **changes,
    }
    config = validate(RetrainConfig, content, "test")
    return retrain(config, architecture, RunFolder(folder / name), data=given, progress=False)


def metrics(result: RetrainResult) -> list[dict[str, Any]]:
    return read_records(result.weights.with_name("metrics.jsonl"))


def different(first: State, second: State) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


def copy_of(module: torch.nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def after_steps(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """Return a list that receives the network's state after every step."""
    states: list[State] = []

    def watch(self: ReidModule, *_: Any) -> None:
        states.append(copy_of(self.network))

    monkeypatch.setattr(ReidModule, "on_train_batch_end", watch)
    return states


def test_averaged_weights_are_those_of_a_loop(folder: Path, after_steps: list[State]) -> None:
    result = run(folder, "averaged", ema=0.8, augment=UNCHANGED)
    assert len(after_steps) > 20
    found = read_state(result.weights)
    network, _, _ = load_reid_network(result.weights)
    for name, parameter in network.named_parameters():
        expected = after_steps[0][name].double()
        for state in after_steps[1:]:
            expected = 0.8 * expected + 0.2 * state[name].double()
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-5, atol=1e-6)
        if name != "neck.norm.bias":  # not trained
            assert not torch.equal(found[name], after_steps[-1][name]), name
    # BatchNorm's statistics are those of this network, and no average of other networks'
    check_statistics(folder, network, found)


def check_statistics(folder: Path, network: torch.nn.Module, found: State) -> None:
    """Compare with those measured over all training images, unchanged, in one batch."""
    images = ImageSet(read_reid(folder / "people").train, SPACE.size)
    pixels = torch.stack([images[i][0] for i in range(len(images))])
    recalibrate(network, [Normalize(IMAGENET_MEAN, IMAGENET_STD)(pixels)])
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(found[name], buffer, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_without_drawn_masks(folder: Path, after_steps: list[State]) -> None:
    """A network with masks drawn in training is evaluated under others, and is measured so."""
    result = run(folder, "masked", architecture=WITH_MASKS, augment=UNCHANGED)
    found, last = read_state(result.weights), after_steps[-1]
    changed = different(found, last)
    assert changed
    assert all(name.endswith(STATISTICS) for name in changed)
    network, _, _ = load_reid_network(result.weights)
    check_statistics(folder, network, found)


def test_statistics_are_drawn_by_the_seed_alone(folder: Path) -> None:
    state = torch.random.get_rng_state()
    first = run(folder, "first", architecture=WITH_MASKS, epochs=1)
    torch.manual_seed(17)
    again = run(folder, "again", architecture=WITH_MASKS, epochs=1)
    torch.random.set_rng_state(state)
    assert not different(read_state(first.weights), read_state(again.weights))


def test_averaging_leaves_the_training_as_it_is(folder: Path, after_steps: list[State]) -> None:
    run(folder, "beside", ema=0.8)
    last = after_steps[-1]
    plain = run(folder, "plain")
    assert not different(read_state(plain.weights), last)
    assert plain.chosen_epoch is None
    assert read_header(plain.weights).chosen_epoch is None
    none = run(folder, "no_memory", ema=0.0)
    found = different(read_state(none.weights), last)
    assert not [name for name in found if not name.endswith(STATISTICS)]


def scored_data(folder: Path, share: float) -> ReidData:
    data = read_reid(folder / "people")
    return hold_out(data, folds=round(1 / share), fold=0, seed=0) if share else data


@pytest.mark.parametrize(
    ("share", "on"), [(0.0, "test"), (0.25, "held-out identities")], ids=["test", "held out"]
)
@pytest.mark.parametrize("ema", [None, 0.8], ids=["last", "averaged"])
def test_weights_are_those_of_the_best_epoch(
    folder: Path, share: float, on: Any, ema: float | None
) -> None:
    name = f"best_{share}_{ema}"
    # a rate at which the score rises and falls
    optimizer = {"name": "sgd", "lr": 0.3, "schedule": "constant", "weight_decay": 0.0}
    result = run(
        folder, name, validation={"every": 1, "hold_out": share}, ema=ema, optimizer=optimizer
    )
    scores = [record["validation/map"] for record in metrics(result)]
    assert len(set(scores)) > 1
    best = max(scores)
    chosen = ChosenEpoch(epoch=scores.index(best), map=best, selected_on=on)
    assert result.chosen_epoch == read_header(result.weights).chosen_epoch == chosen
    evaluation = evaluate(result.weights, scored_data(folder, share), workers=0)
    assert 100 * evaluation.retrieval.map == pytest.approx(best, abs=1e-5)
    assert evaluation.record()["chosen_epoch"] == {
        "epoch": chosen.epoch, "map": best, "selected_on": on,
    }  # fmt: skip


def test_held_out_identities_are_not_trained_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    step = ReidModule.training_step

    def watched(self: ReidModule, batch: Any, batch_idx: int) -> Tensor:
        seen.update(self.names[i] for i in batch.indices.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ReidModule, "training_step", watched)
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

    def keep(self: ReidModule) -> None:
        module.append(copy_of(self.network))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReidModule, "on_train_end", keep)
        run(folder, "scored", classifier_epochs=2, validation={"every": 1})
    assert not different(read_state(plain.weights), module[0])


def test_first_of_equal_scores_is_kept() -> None:
    networks: list[Any] = [torch.nn.Linear(1, 1) for _ in range(4)]
    scores = [50.0, 70.0, 70.0, 60.0]
    given = iter(scores)
    best, copy = (
        BestEpoch(1, network=iter(networks).__next__, score_of=lambda *_: next(given))
        for _ in range(2)
    )
    for epoch, score in enumerate(scores):
        module: Any = SimpleNamespace(current_epoch=epoch, device=torch.device("cpu"))
        assert best.score(module) == score
    assert best.best is not None
    assert (best.best.epoch, best.best.map) == (1, 70.0)
    assert not different(best.best.weights, copy_of(networks[1]))
    copy.load_state_dict(best.state_dict())
    assert isinstance(copy.best, Best)
    assert vars(copy.best) == vars(best.best)


@pytest.fixture(scope="module")
def finished(folder: Path) -> RetrainResult:
    return run(folder, "finished", **EVERYTHING)


@pytest.mark.parametrize("epoch", [1, 2])
def test_stopped_run_ends_as_the_uninterrupted_one(
    folder: Path, finished: RetrainResult, epoch: int, monkeypatch: pytest.MonkeyPatch
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
    data = ReidData(**{**vars(whole), "query": tuple(one_camera), "gallery": tuple(one_camera)})
    with pytest.raises(UserError, match="no query has a match from another camera"):
        run(folder, "unscorable", data, validation={"every": 1})
    assert not (folder / "unscorable").exists()
    run(folder, "unscored_one_camera", data, epochs=1)


def test_another_test_set_is_another_run(folder: Path) -> None:
    whole = read_reid(folder / "people")
    run(folder, "same", whole, epochs=1, validation={"every": 1})
    other = ReidData(**{**vars(whole), "query": whole.query[:-2]})
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
