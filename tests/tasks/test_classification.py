"""Accuracies counted by hand, and a classification network evaluated image by image."""

from collections import defaultdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json
from dcsnas.config.search import ClassifySearchConfig
from dcsnas.config.stages import DataConfig, PretrainConfig
from dcsnas.data.augment import Normalize
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.loading import ImageSet
from dcsnas.evaluation.classification import accuracies, class_accuracies, known_classes
from dcsnas.evaluation.record import save_report
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.build import build
from dcsnas.nn.heads import LinearHead, Output, TaskNetwork
from dcsnas.nn.weights import (
    header_of,
    load_network,
    read_header,
    read_state,
    save_weights,
)
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice
from dcsnas.tasks.classify import ClassifyObjective
from dcsnas.tasks.task import evaluate
from latency_fakes import fake_table, micro_space
from reid_data import SIZE, write_class_folder

SPACE = micro_space()


def test_accuracies_are_those_of_a_loop() -> None:
    logits, labels = torch.randn(40, 5), torch.arange(40) % 4  # none of the last class
    labels[:7] = 0  # classes of different sizes
    right: dict[int, list[bool]] = defaultdict(list)
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        right[label].append(row.index(max(row)) == label)
    by_class = {label: sum(answers) / len(answers) for label, answers in right.items()}
    assert class_accuracies(logits, labels) == pytest.approx(by_class)
    found = accuracies(logits, labels)
    assert found["accuracy"] == pytest.approx(100 * sum(map(sum, right.values())) / 40)
    assert found["mean_class_accuracy"] == pytest.approx(25 * sum(by_class.values()))
    assert found["accuracy"] != pytest.approx(found["mean_class_accuracy"])


@pytest.mark.parametrize("kind", [PretrainConfig, ClassifySearchConfig])
def test_the_loss_is_smoothed_cross_entropy_alone(kind: type) -> None:
    config = kind.model_construct(label_smoothing=0.3)
    objective = ClassifyObjective(config, 5, 8)
    assert not list(objective.state_dict())
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    terms = objective(Output(torch.randn(6, 8), logits), torch.zeros(0), labels, progress=0.5)
    assert list(terms) == ["loss"]
    smooth = 0.7 * F.one_hot(labels, 5) + 0.3 / 5
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(terms["loss"], expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an image folder and an untrained network for it."""
    root = tmp_path_factory.mktemp("classification")
    write_class_folder(root / "classes")
    file = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
    backbone = build(file.network, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = TaskNetwork(backbone, LinearHead(backbone.feature_dim, 3))
    header = header_of("retrain", file, DataConfig(root=Path()), SIZE, 3, task="classify")
    save_weights(root / "model.safetensors", network.state_dict(), header)
    return root


def test_a_report_says_how_every_class_is_told(folder: Path) -> None:
    data = read_image_folder(folder / "classes")
    report = evaluate(folder / "model.safetensors", data, device="cpu", workers=0)
    network, header, _ = load_network(folder / "model.safetensors", LinearHead)
    network.eval()
    images, normalize = ImageSet(data.probes, SIZE), Normalize(header.mean, header.std)
    with torch.no_grad():
        answers = [int(network(normalize(images[i][0][None])).logits.argmax()) for i in range(24)]
    labels = images.labels.tolist()
    hits = [answer == label for answer, label in zip(answers, labels, strict=True)]
    assert report.percentages()["accuracy"] == pytest.approx(100 * sum(hits) / 24)
    save_report(folder / "metrics.json", report, {"measured_ms": 2.0})
    record = read_json(folder / "metrics.json")
    for label, name in enumerate(data.classes):
        own = [hit for hit, of in zip(hits, labels, strict=True) if of == label]
        assert record["by_class"][name] == pytest.approx(100 * sum(own) / len(own))
    assert record["counts"] == {"val": 24, "classes": 3}
    assert record["latency"] == {"measured_ms": 2.0}
    assert not (folder / "neighbours.json").exists()
    assert "24 images of 3 classes" in report.lines()[0]


def test_its_features_are_not_for_retrieval(folder: Path) -> None:
    with pytest.raises(UserError, match="holds a network of task 'classify', whose features are"):
        load_reid_network(folder / "model.safetensors")


def test_weights_of_before_are_evaluated_squashed(folder: Path) -> None:
    """Their headers have no crop; what they saw in training they see in evaluation."""
    header = read_header(folder / "model.safetensors")
    assert header.crop is None
    assert "crop" not in header.model_dump()
    data = read_image_folder(folder / "classes")
    report = evaluate(folder / "model.safetensors", data, device="cpu", workers=0)
    assert report.crop is None
    assert "squashed" in report.lines()[0]
    state = read_state(folder / "model.safetensors")
    cropped = header.model_copy(update={"crop": 0.5})
    save_weights(folder / "cropped.safetensors", state, cropped)
    other = evaluate(folder / "cropped.safetensors", data, device="cpu", workers=0)
    assert other.record()["protocol"]["crop"] == 0.5


def test_the_number_of_classes_must_fit_where_no_names_are_known(folder: Path) -> None:
    header = read_header(folder / "model.safetensors")
    data = read_image_folder(folder / "classes")
    with pytest.raises(UserError, match="has 3 classes, and the weights tell 4 apart"):
        known_classes(header.model_copy(update={"num_classes": 4}), data)
    named = header.model_copy(update={"classes": ("class2", "class0"), "num_classes": 2})
    assert known_classes(named, data).num_classes == 2
