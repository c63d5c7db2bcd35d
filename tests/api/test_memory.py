"""Images and networks in memory are used as those in files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dcsnas as dn
from dcsnas.nn.heads import BNNeck, LinearHead, TaskNetwork
from dcsnas.nn.weights import load_network
from deployment_setup import MEAN, STD, trained_like
from latency_fakes import micro_space
from reid_data import write_class_folder

SPACE = micro_space()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Return PNG files of two sizes, neither of them the network's."""
    rng = np.random.default_rng(0)
    paths = []
    for index, size in enumerate([(40, 17, 3), (40, 17, 3), (12, 31, 3)]):
        paths.append(tmp_path / "pictures" / f"{index}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(paths[-1])
    return paths


def as_array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def as_tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(as_array(path).copy()).permute(2, 0, 1)


def test_files_arrays_and_tensors_have_the_same_features(
    weights: dn.TrainedRun, pictures: list[Path]
) -> None:
    expected = weights.embed(pictures)
    assert expected.shape == (3, SPACE.feature_dim)
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    arrays, tensors = list(map(as_array, pictures)), list(map(as_tensor, pictures))
    alike: list[Any] = [pictures[0].parent, list(map(str, pictures)), arrays, tensors,
                        [pictures[0], arrays[1], tensors[2]]]  # fmt: skip
    for images in alike:
        np.testing.assert_array_equal(weights.embed(images), expected)
    for batch in (np.stack(arrays[:2]), torch.stack(tensors[:2])):
        np.testing.assert_allclose(weights.embed(batch), expected[:2], atol=1e-6)
    for one in (pictures[2], str(pictures[2]), arrays[2], tensors[2]):
        np.testing.assert_allclose(weights.embed(one), expected[2:], atol=1e-6)
    np.testing.assert_array_equal(weights.embed([pictures[0]] * 2).std(0), 0)


@pytest.fixture
def network(weights: dn.TrainedRun) -> Iterator[TaskNetwork]:
    """Return the network of ``weights`` in training mode, which no use may change."""
    found = load_network(weights.weights, BNNeck).network.train()
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    yield found
    assert found.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.state_dict().items())


def test_a_network_in_memory_is_used_as_one_in_a_file(
    folder: Path, weights: dn.TrainedRun, network: TaskNetwork, pictures: list[Path], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = dn.Model(network, input=(16, 8), mean=MEAN, std=STD)
    found, expected = (one.evaluate(folder / "data", workers=0) for one in (model, weights))
    assert found.record() == expected.record()
    np.testing.assert_array_equal(model.embed(pictures), weights.embed(pictures))
    model.export(tmp_path / "memory.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "memory.onnx")
    images = np.stack([as_array(path) for path in pictures[:2]])[:, :16, :8]
    (features,) = session.run(None, {"images": images.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(features, weights.embed(images), atol=2e-6)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["architecture"] == ""
    assert re.fullmatch("[0-9a-f]{16}", properties["weights"])


def test_any_module_that_gives_features_can_be_used(pictures: list[Path]) -> None:
    mean_colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = dn.Model(mean_colour, input=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    means = np.array([np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR))
                      .mean((0, 1)) for path in pictures])  # fmt: skip
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(pictures), expected, atol=1e-6)
    built = dn.build(SPACE.sample())
    assert dn.Model(built, input=SPACE.size).embed(pictures).shape == (3, built.feature_dim)


def test_a_classifier_in_memory_has_an_accuracy(tmp_path: Path) -> None:
    classes = write_class_folder(tmp_path / "classes")
    backbone = trained_like(SPACE.sample(), seed=0).backbone
    network = TaskNetwork(backbone, LinearHead(SPACE.feature_dim, 3))
    model = dn.Model(network, input=SPACE.size, task="classify")
    report = model.evaluate(classes, workers=0)
    assert 0 <= report.accuracy <= 100
    assert report.accuracy == report.record()["accuracy"]
    nn.init.zeros_(network.neck.weight)  # type: ignore[arg-type]
    nn.init.constant_(network.neck.bias[1:2], 1)  # type: ignore[index]
    assert model.evaluate(classes, workers=0).accuracy == pytest.approx(100 / 3)
    with pytest.raises(dn.UserError, match="network in memory: holds a network of task 'classify'"):
        model.embed(classes)
