"""Scores of networks during a search: what they are, and that they leave the search alone."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.data import images
from dcsnas.data.augment import Normalize
from dcsnas.data.loading import ImageSet
from dcsnas.data.reid import Sample, read_reid, split_train
from dcsnas.evaluation.ranking import Embeddings, evaluate_retrieval
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.nn.inherit import inherit_weights, recalibrate
from dcsnas.nn.weights import read_state
from dcsnas.search.derive import read_probabilities
from dcsnas.search.recording import ProbabilityLog
from dcsnas.search.run import search
from dcsnas.search.supernet import Supernet, network_weights
from dcsnas.search.validation import Validator
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.training import batchnorm_statistics
from latency_fakes import micro_space
from search_setup import small_search, write_search_inputs
from supernet_fakes import SharedGumbel

SPACE = micro_space()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("validation"))


@pytest.fixture
def validator(folder: Path) -> Validator:
    config = small_search(folder)
    data = read_reid(config.data.root)
    parts = split_train(data.train, fraction=config.split, seed=0)
    return Validator(config, SPACE, SPACE.size, parts, data.num_classes)


def trained_looking() -> TaskNetwork:
    """Return a supernet and a neck whose batchnorm_statistics are not those of new ones."""
    supernet: Any = Supernet(SPACE)
    SharedGumbel().mutate_model(supernet)
    neck = BNNeck(SPACE.feature_dim, 8)
    for module in (*supernet.modules(), *neck.modules()):
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.weight, 1.0, 0.2)
            assert module.running_mean is not None
            torch.nn.init.normal_(module.running_mean)
    return TaskNetwork(supernet, neck)


def test_a_score_is_the_map_of_the_sliced_recalibrated_network(validator: Validator) -> None:
    trained = trained_looking()
    choice = smallest_choice(SPACE)
    score = validator.score(trained, choice)

    backbone = build(SPACE.architecture(choice))
    inherit_weights(backbone, network_weights(trained.backbone))
    network = TaskNetwork(backbone, BNNeck(backbone.feature_dim, 8))
    network.neck.load_state_dict(trained.neck.state_dict())

    def embedded(samples: list[Sample]) -> Embeddings:
        with torch.no_grad():
            features = torch.cat([network.embed(image(s)) for s in samples])
        identities, cameras = zip(*((s.identity, s.camera) for s in samples), strict=True)
        return Embeddings(features, torch.tensor(identities), torch.tensor(cameras))

    def image(sample: Sample) -> torch.Tensor:
        pixels = ImageSet([sample], SPACE.size)[0][0]
        data = validator.config.data
        return Normalize(data.mean, data.std)(pixels.unsqueeze(0))

    known, held_out = list(validator.known), list(validator.probes)
    assert {s.path for s in known}.isdisjoint(s.path for s in held_out)
    recalibrate(network, [torch.cat([image(s) for s in known])])
    expected = evaluate_retrieval(embedded(held_out), embedded([*held_out, *known])).map
    assert score == pytest.approx(100 * expected, abs=1e-3)
    other = validator.score(trained, largest_choice(SPACE))
    assert 0 < score < 100
    assert other != score


def test_a_score_leaves_the_search_as_it_is(validator: Validator) -> None:
    trained = trained_looking()
    trained.train()
    before = copy.deepcopy(trained.state_dict())
    state = torch.get_rng_state()
    first = validator.score(trained, largest_choice(SPACE))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], t) for n, t in trained.state_dict().items())
    assert all(module.training for module in (trained, *trained.children()))
    torch.manual_seed(77)
    assert validator.score(trained, largest_choice(SPACE)) == first, "nothing is drawn"


def test_held_images_are_decoded_once_for_all_networks(
    validator: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, choices = trained_looking(), (largest_choice(SPACE), smallest_choice(SPACE))
    expected = [validator.score(trained, choice) for choice in choices]
    decoded: list[Path] = []

    def counting(path: Path, *arguments: Any) -> Any:
        decoded.append(path)
        return decode_rgb(path, *arguments)

    decode_rgb = images.decode_rgb
    monkeypatch.setattr(images, "decode_rgb", counting)
    config = validator.config
    data = config.data.model_copy(update={"in_memory": True})
    config = config.model_copy(update={"data": data})
    parts = (validator.known, validator.probes)
    held = Validator(config, SPACE, SPACE.size, parts, validator.num_classes)
    assert [held.score(trained, choice) for choice in choices] == expected
    assert sorted(decoded) == sorted(sample.path for sample in held.references)
    decoded.clear()
    assert [validator.score(trained, choice) for choice in choices] == expected
    each = len(validator.known) + len(validator.references)
    assert len(decoded) == len(choices) * each, (
        "for statistics and features, no image for both parts"
    )


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 129, 130, 257, 1023, 1024, 1025, 2047, 5000])
def test_batches_for_statistics_are_of_nearly_one_size(
    validator: Validator, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image alone has no variance, and a small last batch would count as much as a whole."""
    (sample, *_), held_out = validator.known, validator.probes
    parts = [sample] * count, held_out
    large = Validator(validator.config, SPACE, SPACE.size, parts, 8)
    assert len(large.known) <= batchnorm_statistics.RECALIBRATION_IMAGES
    assert len(large.known) > min(count, batchnorm_statistics.RECALIBRATION_IMAGES) / 2
    sizes: list[int] = []

    def loader(images: ImageSet, *, batch_size: int, **_: Any) -> list[Any]:
        rest = [len(images) % batch_size] if len(images) % batch_size else []
        sizes.extend([batch_size] * (len(images) // batch_size) + rest)
        return []

    monkeypatch.setattr(batchnorm_statistics, "make_loader", loader)
    data = validator.config.data
    network, known = torch.nn.Linear(1, 1), ImageSet(large.known, SPACE.size)
    assert not list(batchnorm_statistics.plain_batches(network, known, data))
    assert sum(sizes) == len(large.known)
    assert max(sizes) <= batchnorm_statistics.RECALIBRATION_BATCH
    assert max(sizes) - min(sizes) < len(sizes)


def run(folder: Path, name: str, **changes: Any) -> RunFolder:
    run_folder = RunFolder(folder / name)
    config = small_search(folder, **{"validate_every": 2, "epochs": 5, **changes})
    search(config, run_folder, allow_foreign=True, progress=False)
    return run_folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(folder: Path) -> RunFolder:
    """Return an uninterrupted search of 5 epochs, validated every other one."""
    return run(folder, "finished")


def test_only_validated_epochs_have_a_score(finished: RunFolder) -> None:
    scores = [line.get("validation/map") for line in lines(finished.metrics)]
    assert [score is not None for score in scores] == [False, True, False, True, True]
    assert all(0 < score <= 100 for score in scores if score is not None)


def test_validation_changes_nothing_else(folder: Path, finished: RunFolder) -> None:
    plain = run(folder, "plain", validate_every=0)
    without = [
        {k: v for k, v in line.items() if k != "validation/map"} for line in lines(finished.metrics)
    ]
    assert lines(plain.metrics) == without
    assert read_probabilities(plain.path) == read_probabilities(finished.path)


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_a_resumed_search_has_the_same_scores(
    folder: Path, finished: RunFolder, stopped_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ProbabilityLog.on_train_epoch_end

    def die_later(self: ProbabilityLog, trainer: Any, module: Any) -> None:
        log(self, trainer, module)
        if trainer.current_epoch == stopped_after + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProbabilityLog, "on_train_epoch_end", die_later)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(folder, f"stopped{stopped_after}")
    monkeypatch.undo()
    resumed = run(folder, f"stopped{stopped_after}")
    assert lines(resumed.metrics) == lines(finished.metrics)
    weights, expected = (read_state(r.path / "supernet.safetensors") for r in (resumed, finished))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_training_raises_the_score(folder: Path) -> None:
    """Images of the same identities, patterns of colour: a trained supernet tells them apart."""
    done = run(folder, "trained", epochs=12, validate_every=1)
    scores = [line["validation/map"] for line in lines(done.metrics)]
    assert max(scores[-3:]) > scores[0]
    assert scores[-1] > 60


def test_one_camera_is_refused_before_the_search(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "one_camera"
    for source in (folder / "data").rglob("*.jpg"):
        if "_c1s" in source.name:
            target = root / source.relative_to(folder / "data")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    with pytest.raises(
        UserError, match=r"one_camera: in the architecture's part of the images no query has"
    ):
        run(folder, "refused", data={"root": str(root), "workers": 0})
    assert not (folder / "refused").exists()


@pytest.mark.parametrize("strategy", ["random", "nni_random_oneshot"])
def test_random_paths_have_no_most_probable_network(folder: Path, strategy: str) -> None:
    with pytest.raises(UserError, match=f"validate_every is 2, but under strategy {strategy} no"):
        small_search(folder, validate_every=2, strategy=strategy)
