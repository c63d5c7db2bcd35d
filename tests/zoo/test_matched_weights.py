"""Tensors of others' files: matched by name, by a rule for names, by order; refused in part."""

from collections import OrderedDict
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import find_backbone
from dcsnas.zoo.matching import Match, match
from dcsnas.zoo.positions import resample_positions
from dcsnas.zoo.torchvision_shim import import_timm
from dcsnas.zoo.transreid import TransReID
from dcsnas.zoo.vit import VisionTransformer

NAME = "mobilenetv2_035"


def trunk(name: str = NAME) -> nn.Module:
    return find_backbone(name).create(32).eval()


def with_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    classifier = {"classifier.weight": torch.zeros(10, 1280), "classifier.bias": torch.zeros(10)}
    return {**state, **classifier}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` under other names, without counters, as files of other programs are."""
    kept = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    pairs = enumerate(kept.items())
    return {f"layers.{index}.{name.rpartition('.')[2]}": t for index, (name, t) in pairs}


def loaded(network: nn.Module, found: Match) -> nn.Module:
    network.load_state_dict(dict(found.tensors), strict=False)
    return network


@pytest.mark.parametrize("order", [False, True])
def test_a_whole_file_gives_the_same_network(order: bool) -> None:
    source, network, images = trunk(), trunk(), torch.randn(2, 3, 64, 32)
    state = source.state_dict()
    found = match(network, with_classifier(renamed(state) if order else state))
    assert not torch.equal(network(images), source(images))
    assert torch.equal(loaded(network, found)(images), source(images))
    assert set(found.classifier) == {"classifier.weight", "classifier.bias"}
    assert found.lines() == [
        "260 of 260 tensors of the network agree with one of the 262 of the file, matched "
        + ("by their order, since no name agrees" if order else "by name"),
        "left out as a classifier: classifier.weight, classifier.bias",
    ]


def conv(c_in: int, c_out: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and its BatchNorm, whose numbers differ from everything else's."""
    norm = nn.BatchNorm2d(c_out)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)  # type: ignore[arg-type]
    return [nn.Conv2d(c_in, c_out, kernel, bias=False, groups=groups), norm]


def torchvisions_mobilenetv2(width: int) -> nn.Module:
    """Return a module with the tensors of torchvision's MobileNetV2, named as its code nests them.

    ``features``: a Sequential of the stem, inverted residuals whose ``conv`` is a Sequential of
    Sequentials (convolution, BatchNorm, ReLU6) and of the projection's two, and the last
    convolution. Source: torchvision/models/mobilenetv2.py.
    """
    table = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    layers: list[nn.Module] = [nn.Sequential(*conv(3, 32))]
    c_in = 32
    for expansion, c_out, repeat in table:
        for _ in range(repeat):
            mid = c_in * expansion
            inner = [nn.Sequential(*conv(c_in, mid, 1))] if expansion != 1 else []
            inner += [nn.Sequential(*conv(mid, mid, 3, mid)), *conv(mid, c_out, 1)]
            layers.append(nn.ModuleDict({"conv": nn.Sequential(*inner)}))
            c_in = c_out
    layers.append(nn.Sequential(*conv(c_in, 1280, 1)))
    classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, width))
    return nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": classifier})


@pytest.mark.parametrize("sorted_names", [False, True], ids=["torch", "safetensors"])
def test_torchvisions_mobilenetv2(sorted_names: bool) -> None:
    state = torchvisions_mobilenetv2(1000).state_dict()
    in_order = [tensor for name, tensor in state.items() if "num_batches" not in name]
    if sorted_names:  # as safetensors lists them
        state = OrderedDict(sorted(state.items()))
    network = trunk("mobilenetv2_100")
    found = match(network, state)
    assert found.by == "by torchvision's names of MobileNetV2"
    assert found.classifier == tuple(n for n in state if n.startswith("classifier.1"))
    # both programs list the layers in the order in which they run
    ours = [t for n, t in loaded(network, found).state_dict().items() if "num_batches" not in n]
    assert len(ours) == 260
    assert all(torch.equal(a, b) for a, b in zip(ours, in_order[:260], strict=True))


def test_torchvisions_and_torchreids_resnets_have_timms_names() -> None:
    block = ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]
    with torch.device("meta"):
        network = import_timm().create_model("resnet50", num_classes=0)
    state = network.state_dict()
    # torchvision/models/resnet.py and torchreid/models/resnet.py
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.running_var"} < set(state)
    assert {f"layer4.2.{name}" for name in block} | set(block) < set(state)
    for classifier in ("fc", "classifier"):
        theirs = {**state, f"{classifier}.weight": torch.zeros(751, 2048)}
        found = match(network, {n: t for n, t in theirs.items() if "num_batches" not in n})
        assert found.whole
        assert found.classifier == (f"{classifier}.weight",)


def test_a_layer_of_its_own_is_no_classifier() -> None:
    # torchreid's resnet50_fc512 ends in a layer that a plain ResNet-50 does not have
    with torch.device("meta"):
        network = import_timm().create_model("resnet50", num_classes=0)
        more = {"fc.0.weight": torch.zeros(512, 2048), "fc.1.running_mean": torch.zeros(512)}
    with pytest.raises(UserError, match=r"without a place in the network: fc \(2 tensors\)"):
        match(network, {**network.state_dict(), **more, "classifier.weight": torch.zeros(7, 512)})


def test_a_part_is_refused_with_the_list_and_taken_with_permission() -> None:
    network = trunk()
    state = with_classifier(network.state_dict())
    for name in [n for n in state if n.startswith("blocks.3.0.") or n == "bn1.bias"]:
        del state[name]
    state["bn1.weight"] = torch.zeros(5)
    state["neck.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as stop:
        match(network, state, "part.pth")
    assert str(stop.value) == (
        "part.pth: 243 of 260 tensors of the network agree with one of the 247 of the file\n"
        "  of another shape: bn1.weight ([16] in the network, [5] in the file)\n"
        "  not in the file: bn1.bias, blocks.3.0 (15 tensors)\n"
        "  of the file, without a place in the network: neck.weight\n"
        "give the weights of this network, or name the network that they are of; --partial takes "
        "what agrees"
    )
    found = match(network, state, partial=True)
    assert not found.whole
    assert set(found.tensors) == set(state) & set(network.state_dict()) - {"bn1.weight"}
    assert "blocks.3.0.conv_pw.weight" in found.left
    assert found.unused == ("bn1.weight", "neck.weight")
    assert found.lines()[0].startswith("243 of 260 tensors of the network agree with one of the")
    assert found.lines()[2:] == [line.strip() for line in str(stop.value).splitlines()[1:4]]


def test_order_alone_is_not_enough() -> None:
    network = trunk()
    state = renamed(network.state_dict())
    last = dict(list(state.items())[:-1])
    for changed in (_swapped(state), last, {**state, "neck.weight": torch.zeros(1)}):
        with pytest.raises(UserError, match="weights of another network: 0 of 260 tensors"):
            match(network, changed)
        with pytest.raises(UserError, match="weights of another network: 0 of 260 tensors"):
            match(network, changed, partial=True)
    # one name that agrees: then the others' names mean something
    name, tensor = next(iter(network.state_dict().items()))
    with pytest.raises(UserError, match="1 of 260 tensors of the network agree"):
        match(network, {**state, name: tensor})


def _swapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Exchange a BatchNorm's weight and bias, which have one shape."""
    names = list(state)
    names[1], names[2] = names[2], names[1]
    return {name: state[name] for name in names}


def test_weights_of_a_wider_network_are_refused() -> None:
    with pytest.raises(UserError) as stop:
        match(trunk(), trunk("mobilenetv2_050").state_dict(), "other.pth")
    first, shapes, remedy = str(stop.value).splitlines()
    assert first == (
        "other.pth: 73 of 260 tensors of the network agree with one of the 260 of the file"
    )
    assert "blocks.1.0.conv_pwl.weight ([8, 48, 1, 1] in the network, [16, 48, 1, 1]" in shapes
    assert remedy.startswith("give the weights of this network")


def test_weights_of_another_family_are_refused() -> None:
    with pytest.raises(UserError) as stop:
        match(trunk(), renamed(trunk("resnet10t").state_dict()))
    assert str(stop.value) == (
        "the weights: weights of another network: 0 of 260 tensors of the network agree with one "
        "of the 70 of the file; conv_stem.weight [16, 3, 3, 3] is not in the file, which begins "
        "with layers.0.weight [24, 3, 3, 3]; give the weights of this network, or name the network "
        "that they are of"
    )


def test_a_larger_network_of_the_family_is_another() -> None:
    with torch.device("meta"):  # shapes are all that counts
        small, large = (
            import_timm().create_model(name, num_classes=0) for name in ("resnet50", "resnet101")
        )
    extra = ", ".join(f"layer3.{block} (15 tensors)" for block in range(6, 23))
    with pytest.raises(UserError) as stop:
        match(large, small.state_dict())
    assert f"\n  not in the file: {extra}\n" in str(stop.value)
    with pytest.raises(UserError) as stop:  # every tensor of the network is there, and yet
        match(small, large.state_dict())
    assert f"\n  of the file, without a place in the network: {extra}\n" in str(stop.value)


def transreids_own(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of ``network``, a TransReID, as its authors' program saves them.

    Source: names and shapes of damo-cv/TransReID, model/make_model.py and
    model/backbones/vit_pytorch.py: a backbone ``base`` with all twelve blocks, of which the last
    does not run, two copies of it, ``b1`` and ``b2``, and heads.
    """
    names = {"whole.": "b1.", "part.": "b2."}
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if name == "camera_embed.numbers":
            continue
        ours = next((prefix for prefix in names if name.startswith(prefix)), "")
        state[names.get(ours, "base.") + name.removeprefix(ours)] = tensor
    state["base.sie_embed"] = state.pop("base.camera_embed.weight")[:, None]
    last = {name: t for name, t in state.items() if name.startswith("b1.0.")}
    state |= {
        name.replace("b1.0.", "base.blocks.11."): torch.zeros_like(t) for name, t in last.items()
    }
    state |= {"base.norm.weight": torch.zeros(768), "base.fc.bias": torch.zeros(1000)}
    for part in ("", "_1", "_2", "_3", "_4"):
        state[f"classifier{part}.weight"] = torch.zeros(751, 768)
        state[f"bottleneck{part}.running_mean"] = torch.zeros(768)
        state[f"bottleneck{part}.num_batches_tracked"] = torch.tensor(7)
    return state


@pytest.fixture(scope="module")
def transreid() -> nn.Module:
    torch.manual_seed(0)
    return TransReID()


def test_a_file_of_transreids_program_gives_its_weights(transreid: nn.Module) -> None:
    found = match(transreid, transreids_own(transreid))
    assert found.whole
    assert found.by == "by the names of TransReID's program"
    assert found.images.mean == (0.5, 0.5, 0.5)
    own = {n: t for n, t in transreid.state_dict().items() if n != "camera_embed.numbers"}
    assert found.tensors.keys() == own.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in own.items())
    left_out = found.lines()[-1]
    assert "base.blocks.11 (12 tensors)" in left_out
    assert "classifier_4.weight" in left_out


def test_one_of_more_cameras_is_of_another_network(transreid: nn.Module) -> None:
    state = transreids_own(transreid)
    state["base.sie_embed"] = torch.zeros(15, 1, 768)  # MSMT17's
    with pytest.raises(UserError, match=r"camera_embed.weight \(\[6, 768\] in the network, "):
        match(transreid, state)


def test_positions_of_a_square_input_are_resampled() -> None:
    """ImageNet's files have 14 x 14 patches, the network 16 x 8."""
    network = find_backbone("vit_base").create(16)
    assert isinstance(network, VisionTransformer)
    square = torch.randn(1, 1 + 14 * 14, 768)
    found = match(network, {**network.state_dict(), "pos_embed": square})
    assert found.whole
    expected = resample_positions(square, (14, 14), (16, 8))
    assert torch.equal(found.tensors["pos_embed"], expected)
    with pytest.raises(UserError, match=r"pos_embed \(\[1, 129, 768\] in the network"):
        match(network, {**network.state_dict(), "pos_embed": square[:, :100]})
