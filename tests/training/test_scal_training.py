"""Self-critical attention in a training: weight 0, a run that stops and goes on, refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from backbone_fakes import FakeBackbone
from stopped_training import stopping_in_the_third_epoch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.nn.weights import read_state
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace
from dcsnas.training.train import train
from reid_data import write_reid_set

State = dict[str, Tensor]


@pytest.fixture
def architecture(fake_backbone: FakeBackbone, tmp_path: Path) -> ArchitectureFile:
    content = {
        "schema_version": 2, "name": "gated", "source": "test", "output_stride": 16,
        "input": {"height": 32, "width": 16}, "backbone": "fake",
        "attention": {"kind": "scal_channel", "arguments": {"scal_channel": {"reduction": 2}}},
    }  # fmt: skip
    path = tmp_path / "gated.yaml"
    path.write_text(yaml.safe_dump(content))
    return SearchSpace.load(path).sample()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reid_set(tmp_path_factory.mktemp("scal") / "people", identities=6, images=4)


def config_of(people: Path, critic: Any, **changes: Any) -> RetrainConfig:
    content = {
        "data": {"root": str(people), "workers": 0},
        "epochs": 4,
        "batch": {"identities": 3, "images": 2},
        "augment": {"pad": 1, "erase": 0.0, "mixup": 0.2},
        "loss": {"ib_size": [4, 2]},
        "optimizer": {"name": "adam", "lr": 0.01},
        "run": {"device": "cpu", "checkpoint_minutes": 0.5},
        **({"critic": critic} if critic else {}),
        **changes,
    }
    return validate(RetrainConfig, content, "test")


def trained(architecture: ArchitectureFile, config: RetrainConfig, out: Path) -> State:
    result = train(config, architecture, RunFolder(out), stage="retrain", progress=False)
    return read_state(result.weights)


def same(found: State, expected: State) -> bool:
    assert set(found) == set(expected)
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weight_0_is_no_critic(
    architecture: ArchitectureFile, people: Path, tmp_path: Path
) -> None:
    none = trained(architecture, config_of(people, None), tmp_path / "none")
    zero = trained(architecture, config_of(people, {"weight": 0}), tmp_path / "zero")
    assert same(zero, none)
    some = trained(architecture, config_of(people, {"weight": 0.5}), tmp_path / "some")
    assert not same(some, none)
    assert set(some) == set(none), "the critic is no part of the network"
    last = read_records(tmp_path / "some" / "metrics.jsonl")[-1]
    assert 0 <= last["reward"] <= 2
    assert "critic" not in (tmp_path / "none" / "config.yaml").read_text()


def test_a_run_that_stops_goes_on_to_the_same_weights(
    architecture: ArchitectureFile, people: Path, tmp_path: Path
) -> None:
    config = config_of(people, {"weight": 0.5, "noise": 0.1})
    whole = trained(architecture, config, tmp_path / "whole")
    with stopping_in_the_third_epoch():
        trained(architecture, config, tmp_path / "stopped")
    assert same(trained(architecture, config, tmp_path / "stopped"), whole)


def test_refusals(architecture: ArchitectureFile, people: Path, tmp_path: Path) -> None:
    plain = SearchSpace(SearchSpace.load(tmp_path / "gated.yaml").file).with_attention("sa")
    with pytest.raises(UserError, match="critic: the network has no attention that a critic can"):
        trained(plain.sample(), config_of(people, {"weight": 0.1}), tmp_path / "run")
    two = config_of(people, {}, run={"device": "cpu", "devices": 2}).model_copy(
        update={"critic": config_of(people, {"weight": 0.1}).critic}
    )
    with pytest.raises(UserError, match=r"critic: it learns in one process; set run\.devices"):
        trained(architecture, two, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"critic\.noise"):
        config_of(people, {"noise": -1})
