"""BatchNorm of timm's networks in its batch-wide form: same values, same state, one batch."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.nn.distributed import BatchWide, span_processes
from dcsnas.nn.layers import MaskedBatchNorm2d
from dcsnas.spaces.backbones import find_backbone
from dcsnas.zoo.batch_norm import BatchWideNorm1d, BatchWideNormAct2d, make_batch_wide
from dcsnas.zoo.torchvision_shim import import_timm

NAMES = ("mobilenetv2_035", "resnet10t")  # with activation, and without
IMAGES = (4, 3, 64, 32)


def gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    parameters = list(network.parameters())
    features = network(images)
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    return [features, *torch.autograd.grad((features * weights).sum(), parameters)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_networks_compute_what_timms_compute(name: str, training: bool) -> None:
    theirs = import_timm().create_model(name, num_classes=0).train(training)
    ours = find_backbone(name).create(32).train(training)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(IMAGES)
    for our, their in zip(gradients(ours, images), gradients(theirs, images), strict=True):
        assert torch.equal(our, their)
    state, expected = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in state), "statistics too"


@pytest.fixture(scope="module")
def _one_process(tmp_path_factory: pytest.TempPathFactory):
    meeting = f"file://{tmp_path_factory.mktemp('group') / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("name", NAMES)
def test_across_processes_nothing_else_changes(name: str) -> None:
    alone = find_backbone(name).create(16).double()
    across = find_backbone(name).create(16).double()
    across.load_state_dict(alone.state_dict())
    span_processes(across)
    images = torch.randn(IMAGES, dtype=torch.float64)
    for one, other in zip(gradients(alone, images), gradients(across, images), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9)
    for key, tensor in alone.state_dict().items():
        torch.testing.assert_close(across.state_dict()[key], tensor)


@pytest.mark.usefixtures("_one_process")
def test_vectors_are_normalised_across_processes() -> None:
    alone, across = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
    network = nn.Sequential(across)
    make_batch_wide(network, "a network")
    assert isinstance(across, BatchWideNorm1d)
    span_processes(network)
    x = torch.randn(6, 5)
    torch.testing.assert_close(network(x), alone(x))
    torch.testing.assert_close(across.running_var, alone.running_var)
    span_processes(network, across=False)
    assert torch.equal(network.eval()(x), nn.Sequential(across).eval()(x))


def test_every_batch_norm_is_exchanged_and_keeps_its_references() -> None:
    network = import_timm().create_model("mobilenetv2_035", num_classes=0)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    acts = [norm.act for norm in norms if hasattr(norm, "act")]
    assert len(norms) == len(acts) > 50
    make_batch_wide(network, "mobilenetv2_035")
    assert all(type(norm) is BatchWideNormAct2d for norm in norms)
    assert [norm.act for norm in norms] == acts
    make_batch_wide(network, "mobilenetv2_035")  # nothing is left to do
    assert all(type(norm) is BatchWideNormAct2d for norm in norms)
    plain = nn.Sequential(nn.BatchNorm2d(3))
    make_batch_wide(plain, "a network")
    assert type(plain[0]) is MaskedBatchNorm2d


def test_an_unknown_batch_norm_is_refused() -> None:
    class Unknown(nn.BatchNorm3d):
        pass

    with pytest.raises(UserError, match=r"backbone x: its .*Unknown has no form that computes"):
        make_batch_wide(nn.Sequential(Unknown(3)), "x")
    wide = type("Wide", (BatchWide, nn.BatchNorm3d), {})
    make_batch_wide(nn.Sequential(wide(3)), "x")  # already is
