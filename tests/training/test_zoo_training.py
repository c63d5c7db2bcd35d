"""Fixed networks in training: averaged weights, and a run that stops and goes on bit-equal.

TransReID is as it is but for its width, which is that of ViT-Ti.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stopped_training import stopping_in_the_third_epoch

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import read_reid
from dcsnas.nn.cameras import CameraEmbedding
from dcsnas.nn.weights import load_network, read_state
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.backbones import FeaturePart
from dcsnas.spaces.space import load_space
from dcsnas.tasks.task import evaluate, find_task
from dcsnas.training.train import Trained, train
from dcsnas.zoo import transreid, vit
from reid_data import write_reid_set

SIZE = (64, 32)
NARROW = 192
SLOW = ("mobilenetv2_200", "hrnet_w32", "convnext_tiny", "vit_base", "transreid_c2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("zoo")
    write_reid_set(root / "people", identities=4, images=4, cameras=2)
    write_reid_set(root / "other", identities=4, images=4, cameras=3)
    return root


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Make TransReID for two cameras, a name that nothing else asks for, as wide as ViT-Ti."""
    parts = tuple(FeaturePart(NARROW, p.loss_weight, p.unit, p.scale) for p in transreid.FEATURES)
    with pytest.MonkeyPatch.context() as patch:
        for module in (vit, transreid):
            patch.setattr(module, "CHANNELS", NARROW)
        patch.setattr(transreid, "FEATURES", parts)
        patch.setattr(vit, "VIT_BASE", "vit_tiny_patch16_224")
        network_of("transreid_c2")  # made, and kept under its name
        yield


def network_of(name: str) -> ArchitectureFile:
    space = load_space(name, "dcs")
    return space.described({}, SIZE)


def retrain(name: str, folder: Path, out: str, data: str = "people") -> Trained:
    """Train with DCS for three epochs of two steps."""
    content = {
        "data": {"root": str(folder / data), "workers": 0},
        "epochs": 3,
        "batch": {"identities": 2, "images": 2},
        "loss": {"ib_size": [4, 2], "eta": 1.0, "eta_warmup": 0.0, "center": 0.01},
        "optimizer": {"name": "sgd", "lr": 0.001},
        "ema": 0.5,
        "run": {"device": "cpu", "checkpoint_minutes": 0.5},
    }
    config = validate(RetrainConfig, content, "test")
    run = RunFolder(folder / out)
    return train(config, network_of(name), run, stage="retrain", progress=False)


@pytest.mark.parametrize(
    "name",
    [
        "osnet_x0_25",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_a_run_that_stops_goes_on_to_the_same_weights(name: str, folder: Path) -> None:
    whole = retrain(name, folder, f"{name}-whole").weights
    with stopping_in_the_third_epoch():
        retrain(name, folder, f"{name}-stopped")
    found = read_state(retrain(name, folder, f"{name}-stopped").weights)
    expected = read_state(whole)
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def test_transreid_has_five_heads_and_knows_its_cameras(folder: Path) -> None:
    trained = retrain("transreid_c2", folder, "five")
    network = load_network(trained.weights, find_task("reid").head).network
    heads = [tensor for key, tensor in network.named_parameters() if "classifier" in key]
    assert [tuple(head.shape) for head in heads] == [(4, NARROW)] * 5
    (embedding,) = (m for m in network.modules() if isinstance(m, CameraEmbedding))
    assert embedding.numbers.tolist() == [1, 2]
    report = evaluate(trained.weights, read_reid(folder / "people"), workers=0, ib_size=(4, 2))
    assert 0 < report.map <= 100
    assert report.record()["protocol"]["feature"] == "5 parts, after the neck's BatchNorm"


def test_more_cameras_than_it_knows(folder: Path) -> None:
    with pytest.raises(UserError, match=r"are of 3 cameras \(1, 2, 3\), the network has .* of 2;"):
        retrain("transreid_c2", folder, "refused", data="other")
    weights = retrain("transreid_c2", folder, "knows").weights
    with pytest.raises(UserError, match="camera 3: the network knows 1, 2; give images of these"):
        evaluate(weights, read_reid(folder / "other"), workers=0, ib_size=(4, 2))


def test_the_loss_is_half_the_wholes_and_half_the_parts_mean(folder: Path) -> None:
    task = find_task("reid")
    content = {"data": {"root": str(folder / "people")}, "epochs": 1, "batch": {}}
    config = validate(RetrainConfig, {**content, "loss": {"eta": 0.0}}, "test")
    parts = transreid.FEATURES
    torch.manual_seed(0)
    head = task.head_of(parts, 4)
    output = head.output(torch.randn(8, 5 * NARROW))
    labels = torch.arange(8) % 4
    inputs = torch.zeros(8, 3 * config.loss.ib_size[0] * config.loss.ib_size[1])
    whole = task.objective_of(config, 4, parts)
    each = [
        task.objective(config, 4, NARROW)(part, inputs, labels, progress=0.0)["loss"]
        for part in output.parts
    ]
    expected = 0.5 * each[0] + 0.5 * torch.stack(each[1:]).mean()
    torch.testing.assert_close(whole(output, inputs, labels, progress=0.0)["loss"], expected)
