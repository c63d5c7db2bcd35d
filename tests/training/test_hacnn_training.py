"""HA-CNN in training: two classifiers, averaged weights, a run that stops and goes on."""

from pathlib import Path

import pytest
import torch
from stopped_training import stopping_in_the_third_epoch

from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import read_reid
from dcsnas.nn.heads import PartsHead
from dcsnas.nn.weights import load_network, read_state
from dcsnas.spaces.space import load_space
from dcsnas.tasks.task import evaluate, find_task
from dcsnas.training.train import Trained, train
from reid_data import write_class_folder, write_reid_set

SPACE = load_space("hacnn")
ARCHITECTURE = SPACE.described({}, SPACE.size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hacnn")
    write_reid_set(root / "people", identities=4, images=4)
    write_class_folder(root / "classes")
    return root


def retrain(folder: Path, name: str) -> Trained:
    content = {
        "data": {"root": str(folder / "people"), "workers": 0},
        "epochs": 3,
        "batch": {"identities": 2, "images": 2},
        "loss": {"ib_size": [4, 2], "eta": 1.0, "eta_warmup": 0.0, "center": 0.01},
        "optimizer": {"name": "adam", "lr": 0.001},
        "ema": 0.5,
        "run": {"device": "cpu", "checkpoint_minutes": 0.5},
    }
    config = validate(RetrainConfig, content, "test")
    return train(config, ARCHITECTURE, RunFolder(folder / name), stage="retrain", progress=False)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return retrain(folder, "whole").weights


def test_either_branch_has_a_neck_and_a_classifier(folder: Path, whole: Path) -> None:
    network = load_network(whole, find_task("reid").head).network
    assert isinstance(network.neck, PartsHead)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.neck.named_parameters()}
    assert shapes == {
        f"heads.{part}.{name}": shape
        for part in (0, 1)
        for name, shape in (
            *(("norm.weight", (512,)), ("norm.bias", (512,)), ("classifier.weight", (4, 512))),
        )
    }
    people = read_reid(folder / "people")
    report = evaluate(whole, people, workers=0, ib_size=(4, 2))
    assert report.record()["protocol"]["feature"] == "2 parts, after the neck's BatchNorm"
    assert 0 < report.map <= 100


@pytest.mark.slow
def test_a_run_that_stops_goes_on_to_the_same_weights(folder: Path, whole: Path) -> None:
    with stopping_in_the_third_epoch():
        retrain(folder, "stopped")
    found, expected = read_state(retrain(folder, "stopped").weights), read_state(whole)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
def test_it_classifies_as_well(folder: Path) -> None:
    data = {"root": str(folder / "classes"), "workers": 0}
    config = validate(PretrainConfig, {"data": data, "epochs": 1, "batch_size": 8}, "test")
    out = RunFolder(folder / "pretrained")
    result = train(config, ARCHITECTURE, out, stage="pretrain", progress=False)
    assert result.score is not None
    assert "trunk.fc_local.0.weight" in read_state(result.weights)
