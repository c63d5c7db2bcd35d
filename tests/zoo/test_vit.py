"""ViT-B/16 and TransReID: timm's results, positions at other sizes, jigsaw, parts, cameras."""

import itertools

import pytest
import torch
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.evaluation.seeing import affinities_at
from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.nn.cameras import seen_by
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.spaces.attention import KINDS, attends
from dcsnas.spaces.backbones import feature_parts, find_backbone
from dcsnas.spaces.space import load_space
from dcsnas.zoo.positions import cubic_weights, resample_positions
from dcsnas.zoo.torchvision_shim import import_timm
from dcsnas.zoo.transreid import TransReID, jigsaw
from dcsnas.zoo.vit import SelectingAttention, VisionTransformer

SIZE = (64, 32)


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer().eval()


@pytest.mark.parametrize("size", [(256, 128), SIZE])
@torch.no_grad()
def test_it_is_timms(vit: VisionTransformer, size: tuple[int, int]) -> None:
    options = {"num_classes": 0, "img_size": (256, 128), "dynamic_img_size": True}
    timms = import_timm().create_model("vit_base_patch16_224", **options).eval()
    assert list(timms.state_dict()) != []
    timms.load_state_dict(vit.state_dict())
    images = torch.randn(2, 3, *size)
    same = {"rtol": 0, "atol": 0 if size == (256, 128) else 1e-4}
    torch.testing.assert_close(vit(images), timms(images), **same)


@pytest.mark.parametrize("wanted", [(16, 8), (4, 2), (21, 10), (7, 13), (1, 1)])
def test_positions_are_resampled_as_torch_does(wanted: tuple[int, int]) -> None:
    import_timm()
    from timm.layers.pos_embed import resample_abs_pos_embed

    given = torch.randn(1, 1 + 128, 5)
    expected = resample_abs_pos_embed(given, list(wanted), [16, 8], num_prefix_tokens=1)
    torch.testing.assert_close(resample_positions(given, (16, 8), wanted), expected)
    assert cubic_weights(16, 5).sum(1) == pytest.approx(1)


@pytest.mark.parametrize("kind", [k for k in KINDS if attends(k) and not KINDS[k].gates])
def test_every_kind_selects_in_a_block(kind: str) -> None:
    torch.manual_seed(0)
    network = build(load_space("vit_base", kind).any_architecture)
    features = network(torch.randn(2, 3, *SIZE))
    features.sum().backward()
    assert features.shape == (2, 768)
    chosen = [p for block in attention_blocks(network).values() for p in block.search_parameters()]
    assert bool(chosen) == (kind != "sa")
    assert all(parameter.grad is not None for parameter in chosen)


@torch.no_grad()
def test_masks_are_on_query_and_key_alone() -> None:
    """Against the attention written out, head by head, with the class token among the tokens."""
    torch.manual_seed(0)
    attention = SelectingAttention(8, num_heads=2, qkv_bias=True, proj_drop=0.0)
    mask = (torch.rand(1, 5, 8) > 0.5).float()
    attention.select = lambda x, both: both * mask
    tokens = torch.randn(1, 5, 8)
    query, key, value = attention.qkv(tokens).chunk(3, -1)
    heads, affinities = [], []
    for head in (slice(0, 4), slice(4, 8)):
        affinity = (query * mask)[..., head] @ (key * mask)[..., head].mT / 2
        affinities.append(affinity.softmax(-1))
        heads.append(affinities[-1] @ value[..., head])
    expected = attention.proj(torch.cat(heads, -1))
    torch.testing.assert_close(attention(tokens), expected)
    mean = (affinities[0] + affinities[1]) / 2
    for token in range(5):
        torch.testing.assert_close(attention.affinities(tokens, token), mean[:, token])


def test_a_block_keeps_its_own_affinity(tmp_path) -> None:
    text = load_text("vit_base").replace("{kind: dcs,", "{kind: dcs, affinity: dot,")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"attention.affinity: .* of its own; remove the key"):
        _ = load_space(path).any_architecture


def load_text(name: str) -> str:
    from dcsnas.spaces.shipped import find_space

    return find_space(name).read_text()


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("vit_base", (100, 48), "both sides must be multiples"),
        ("transreid", (8, 128), "a patch measures 16x16"),
        ("transreid", (28, 16), "2 patches are too few for 4 parts"),
    ],
)
def test_images_that_do_not_do(name: str, size: tuple[int, int], reason: str) -> None:
    backbone = find_backbone(name)
    with pytest.raises(UserError, match=rf"cannot take images of {size[0]}x{size[1]} \(.*{reason}"):
        backbone.map_sizes(backbone.output_strides[0], size)
    with pytest.raises(UserError, match="set output_stride to"):
        backbone.create(32)


@pytest.mark.parametrize("count", [210, 211, 8])
def test_jigsaw_is_the_references(count: int) -> None:
    """Rolled by 4, dealt in two groups; the last but one is repeated where they are unequal."""
    places = torch.arange(1.0, count + 1)
    rolled = [*places[4:].tolist(), *places[:4].tolist()]
    if count % 2:
        rolled.append(rolled[-2])
    half = len(rolled) // 2
    dealt = list(itertools.chain(*zip(rolled[:half], rolled[half:], strict=True)))
    assert jigsaw(places[None, :, None]).flatten().tolist() == dealt


@pytest.fixture(scope="module")
def transreid() -> TransReID:
    torch.manual_seed(0)
    return TransReID(3).eval()


@torch.no_grad()
def test_five_features_of_whole_and_parts(transreid: TransReID) -> None:
    images = torch.randn(2, 3, *SIZE)
    with seen_by(transreid, torch.tensor([2, 3])):
        found = transreid(images)
        tokens = transreid.embedded(images) + 3.0 * transreid.camera_embed()[:, None]
    for block in transreid.blocks:
        tokens = block(tokens)
    expected = [transreid.whole(tokens)[:, 0]]
    patches = jigsaw(tokens[:, 1:])
    each = (tokens.shape[1] - 1) // 4
    for k in range(4):
        part = torch.cat((tokens[:, :1], patches[:, k * each : (k + 1) * each]), 1)
        expected.append(transreid.part(part)[:, 0])
    torch.testing.assert_close(found, torch.cat(expected, 1))


@torch.no_grad()
def test_cameras_change_features(transreid: TransReID) -> None:
    nn.init.normal_(transreid.camera_embed.weight)
    images = torch.randn(1, 3, *SIZE).expand(2, -1, -1, -1)
    with seen_by(transreid, torch.tensor([1, 2])):
        first, second = transreid(images)
    assert not torch.allclose(first, second)
    with seen_by(transreid, torch.tensor([4, 1])), pytest.raises(UserError, match="camera 4: the"):
        transreid(images)


def test_names_say_how_many_cameras() -> None:
    assert (
        find_backbone("transreid_c15").cost(12, SIZE).params
        - find_backbone("transreid").cost(12, SIZE).params
        == 9 * 768
    )
    for unknown in ("transreid_c0", "transreid_15"):
        with pytest.raises(UserError, match="no backbone called"):
            find_backbone(unknown)
    parts = feature_parts(find_backbone("transreid"))
    assert [part.loss_weight for part in parts] == [0.5, *[0.125] * 4]
    assert [part.scale for part in parts] == [1.0, *[0.25] * 4]


@torch.no_grad()
def test_maps_are_the_tokens_of_every_block() -> None:
    network = build(load_space("vit_base", "dcs").any_architecture).eval()
    images = torch.randn(2, 3, *SIZE)
    maps = network.feature_maps(images)
    assert [tuple(found.shape) for found in maps] == [(2, 768, 9, 1)] * 12
    seen = affinities_at(TaskNetwork(network, BNNeck(768, 2)).eval(), images, (0.9, 0.9))
    assert [heat.module for heat in seen] == [f"trunk.blocks.{i}.attn" for i in range(12)]
    assert all(heat.values.shape == (2, 4, 2) for heat in seen)
