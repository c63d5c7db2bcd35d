"""timm's networks as backbones: published sizes, maps where they are said to be, refusals."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.nn.distributed import span_processes
from dcsnas.spaces.backbones import LIBRARIES, find_backbone
from dcsnas.zoo.timm_backbone import TimmBackbone
from dcsnas.zoo.torchvision_shim import import_timm

SIZE = (256, 128)

# shared/design/zoo.md, section 1, counted there without this package; GMACs at strides 32 and 16
PUBLISHED = {
    "mobilenetv2_100": (2_223_872, (0.196, 0.350), (24, 32, 96, 320), 1280),
    "resnet50": (23_508_032, (2.669, 4.053), (256, 512, 1024, 2048), 2048),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    params, giga, channels, feature_dim = PUBLISHED[name]
    backbone = find_backbone(name)
    assert backbone.name == name
    assert backbone.output_strides == (32, 16)
    assert backbone.feature_dim == feature_dim
    assert backbone.layout == "NCHW"
    assert tuple(end.channels for end in backbone.stage_ends) == channels
    assert tuple(end.reduction for end in backbone.stage_ends) == (4, 8, 16, 32)
    costs = [backbone.cost(stride, SIZE) for stride in backbone.output_strides]
    assert [cost.params for cost in costs] == [params, params]
    assert tuple(round(cost.macs / 1e9, 3) for cost in costs) == giga
    assert backbone.map_sizes(32, SIZE) == ((64, 32), (32, 16), (16, 8), (8, 4))
    assert backbone.map_sizes(16, SIZE) == ((64, 32), (32, 16), (16, 8), (16, 8))


# name, strides, layout, the channels that its paper or timm's feature_info names
FAMILIES: dict[str, tuple[tuple[int, ...], str, tuple[int, ...]]] = {
    "mobilenetv2_035": ((32, 16), "NCHW", (8, 16, 32, 112)),
    "resnet10t": ((32, 16), "NCHW", (64, 128, 256, 512)),  # pools where it skips
    "regnety_002": ((32, 16), "NCHW", (24, 56, 152, 368)),
    "ghostnet_050": ((32, 16), "NCHW", (12, 20, 40, 80)),
    "densenet121": ((32, 16), "NCHW", (256, 512, 1024, 1024)),  # reduces by pooling alone
    "convnext_atto": ((32,), "NCHW", (40, 80, 160, 320)),
    "swin_tiny_patch4_window7_224": ((32,), "NHWC", (96, 192, 384, 768)),
}


def maps_of(trunk: nn.Module, modules: list[str], images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return the outputs of ``modules`` by hooks of their own, and the features."""
    maps: list[Tensor] = []
    for module in modules:
        keep: Callable[..., None] = lambda _module, _args, output: maps.append(output)  # noqa: E731
        trunk.get_submodule(module).register_forward_hook(keep)
    with torch.no_grad():
        features = trunk.eval()(images)
    return maps, features


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_are_what_they_are_said_to_be(name: str) -> None:
    strides, layout, channels = FAMILIES[name]
    backbone = find_backbone(name)
    assert (backbone.output_strides, backbone.layout) == (strides, layout)
    assert tuple(end.channels for end in backbone.stage_ends) == channels
    images = torch.randn(2, 3, 96, 64)
    for stride in strides:
        trunk = backbone.create(stride)
        assert trunk.training
        span_processes(trunk)  # every BatchNorm can
        span_processes(trunk, across=False)
        maps, features = maps_of(trunk, [end.module for end in backbone.stage_ends], images)
        assert features.shape == (2, backbone.feature_dim)
        sizes = backbone.map_sizes(stride, (96, 64))
        assert sizes[-1] == (96 // stride, 64 // stride)
        for found, size, width in zip(maps, sizes, channels, strict=True):
            expected = (width, *size) if layout == "NCHW" else (*size, width)
            assert found.shape == (2, *expected)


@pytest.mark.parametrize("name", ["mobilenetv2_035", "resnet10t", "densenet121"])
def test_a_removed_stride_only_keeps_what_it_dropped(name: str) -> None:
    backbone = TimmBackbone(name)
    coarse, fine = backbone.create(32).eval(), backbone.create(16).eval()
    fine.load_state_dict(coarse.state_dict())
    differing = [n for n, m in fine.named_modules() if _geometry(m) != _geometry(coarse, n)]
    assert set(differing) == set(backbone._strides)
    assert all(getattr(module, "dilation", 1) in (1, (1, 1)) for module in fine.modules())
    first = next(n for n in differing if not list(fine.get_submodule(n).children()))
    images = torch.randn(1, 3, 64, 32)
    ((kept,), _), ((all_of,), _) = (maps_of(net, [first], images) for net in (coarse, fine))
    if name == "densenet121":  # a pool has nothing left to pool; its mean is what was pooled
        all_of = nn.functional.avg_pool2d(all_of, 2)
    else:
        all_of = all_of[:, :, ::2, ::2]
    torch.testing.assert_close(all_of, kept)


def _geometry(module: nn.Module, name: str = "") -> tuple[Any, ...]:
    module = module.get_submodule(name)
    return tuple(getattr(module, field, None) for field in ("stride", "kernel_size", "padding"))


def test_a_stride_that_cannot_be_removed_is_explained() -> None:
    with pytest.raises(UserError) as stop:
        find_backbone("convnext_atto").create(16)
    assert str(stop.value) == (
        "backbone convnext_atto: output_stride 16 is not 32 (without the stride of "
        "stages.3.downsample.1 its last map measures (13, 13) for images of (224, 224), not "
        "(14, 14)); set output_stride to 32"
    )
    with pytest.raises(UserError, match="is not 32 or 16; set output_stride to 32 or 16"):
        find_backbone("resnet10t").create(8)


REFUSED = {
    "levit_128s": r"stages\.0 gives tokens of shape \[B, 196, 128\], not a map \[B, C, H, W\]",
    "coat_lite_tiny": r"serial_blocks1 runs 0 times for one image",
    "selecsls42": r"gives a list, not a map of channels",
    "vit_tiny_patch16_224": r"blocks\.0 gives tokens of shape \[B, 197, 192\]",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_adapted_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UserError, match=REFUSED[name]) as stop:
        find_backbone(name)
    assert str(stop.value).startswith(f"backbone {name}: ")
    assert "choose another, such as resnet50" in str(stop.value)


class Announcing(nn.Module):
    """A network that says what a test wants it to."""

    def __init__(self, feature_info: Any, *, pooled: bool = True) -> None:
        super().__init__()
        if feature_info is not None:
            self.feature_info = feature_info
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x.mean((2, 3)) if self.pooled else x


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Announcing(None), "announces no stages (it has no feature_info)"),
        (Announcing([{"module": "stem", "num_chs": 8, "reduction": 2}]), "no stage of reduction 4"),
        (
            Announcing([{"module": "stage1", "num_chs": 8, "reduction": 4}]),
            "it announces a stage stage1, which is no module of it",
        ),
        (
            Announcing([{"module": "stem", "num_chs": 9, "reduction": 4}]),
            "stem gives [B, 8, 56, 56] for images of 224x224, where 9 channels at 1/4 are",
        ),
        (Announcing([{"module": "stem", "num_chs": 8, "reduction": 8}]), "8 channels at 1/8 are"),
        (
            Announcing([{"module": "stem", "num_chs": 8, "reduction": 4}], pooled=False),
            "it gives [B, 8, 56, 56], not one feature vector",
        ),
    ],
)
def test_wrong_announcements_are_found(
    monkeypatch: pytest.MonkeyPatch, network: nn.Module, reason: str
) -> None:
    monkeypatch.setattr(TimmBackbone, "_create", lambda self: network)
    with pytest.raises(UserError) as stop:
        TimmBackbone("resnet18")
    assert reason in str(stop.value)


def test_images_of_a_size_that_the_network_cannot_take() -> None:
    backbone = find_backbone("coatnet_nano_rw_224")  # biases by position, made for 224x224
    assert backbone.map_sizes(32, (224, 224))[-1] == (7, 7)
    for question in (backbone.map_sizes, backbone.cost):
        with pytest.raises(UserError, match=r"cannot take images of 256x128 .* such as 224x224"):
            question(32, SIZE)


def test_names_are_timms() -> None:
    timm = import_timm()
    assert list(LIBRARIES["timm"].names()) == timm.list_models()
    assert find_backbone("resnet18.a1_in1k").name == "resnet18.a1_in1k", "a tag names weights"
    for unknown in ("resnet18.a1_in2k", "resnet5", "hf-hub:timm/resnet18", "timm/resnet18"):
        assert LIBRARIES["timm"].get(unknown) is None
    with pytest.raises(UserError, match="did you mean resnet50, "):
        find_backbone("resnet5O")


def test_looking_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    backbone = TimmBackbone("mobilenetv2_050")
    backbone.cost(16, (64, 32))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    first = backbone.create(32).state_dict()
    torch.manual_seed(3)
    again = import_timm().create_model("mobilenetv2_050", num_classes=0).state_dict()
    assert list(first) == list(again)
    assert all(torch.equal(first[key], again[key]) for key in first), "fresh weights are timm's"


def test_a_trunk_can_be_copied_and_pickled() -> None:
    trunk = find_backbone("mobilenetv2_035").create(16).eval()
    images = torch.randn(1, 3, 64, 32)
    for copied in (copy.deepcopy(trunk), pickle.loads(pickle.dumps(trunk))):
        assert torch.equal(copied(images), trunk(images))
        span_processes(copied)
        with torch.no_grad():
            copied.conv_stem.weight.zero_()
        assert not torch.equal(copied.eval()(images), trunk(images))


def test_pretrained_weights_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    timm, asked = import_timm(), []
    real = timm.create_model

    def fetching(name: str, pretrained: bool, **options: Any) -> nn.Module:
        asked.append((name, pretrained, options))
        return real(name, **options)

    backbone = find_backbone("mobilenetv2_050")
    monkeypatch.setattr(timm, "create_model", fetching)
    state = backbone.pretrained()
    assert asked == [("mobilenetv2_050", True, {"num_classes": 0})]
    assert list(state) == list(backbone.create(32).state_dict())


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="timm publishes no weights of it; give a file of some"):
        find_backbone("mobilenetv2_035").pretrained()

    def offline(*args: Any, **options: Any) -> nn.Module:
        raise ConnectionError("no route to host\nmore of it")

    backbone = find_backbone("mobilenetv2_050")
    monkeypatch.setattr(import_timm(), "create_model", offline)
    with pytest.raises(UserError) as stop:
        backbone.pretrained()
    assert str(stop.value) == (
        "backbone mobilenetv2_050: its weights cannot be fetched (ConnectionError: no route to "
        "host); check this machine's connection, or give a file of them"
    )
