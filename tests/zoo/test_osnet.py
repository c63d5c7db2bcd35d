"""OSNet against what torchreid's own gave, and against published sizes."""

import pytest
import torch
from torchreid_reference import recorded, torchreid_images, torchreid_state

from dcsnas.spaces.backbones import find_backbone
from dcsnas.zoo.osnet import OSNet


@pytest.mark.parametrize(("name", "width"), [("osnet_x1_0", 1.0), ("osnet_x0_25", 0.25)])
def test_torchreid_has_the_same_features(name: str, width: float) -> None:
    network = OSNet(width).double().eval()
    # torchreid makes its networks in float32, and the recorded one was widened with its weights
    given = {key: tensor.float() for key, tensor in torchreid_state(name).items()}
    found = network.load_state_dict(given, strict=False)
    assert all(key.endswith("num_batches_tracked") for key in found.missing_keys)
    assert all(key.startswith("classifier.") for key in found.unexpected_keys)
    with torch.no_grad():
        features = network(torchreid_images(name))
    expected = recorded(name)
    assert list(features.shape) == expected["features"]
    found_of = {
        "first_8": features[:, :8],
        "norm": features.norm(dim=1),
        "sum": features.sum(1),
    }
    for measure, value in found_of.items():
        wanted = torch.tensor(expected[measure], dtype=torch.float64)
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-8)


def test_a_gate_is_shared_by_the_streams_of_its_block() -> None:
    parameters = dict(OSNet().named_parameters())
    assert sum(name.endswith("gate.fc1.weight") for name in parameters) == 6, "blocks"
    assert sum(tensor.numel() for tensor in parameters.values()) == 2_169_508


@pytest.mark.parametrize("name", ["osnet_x0_75", "osnet_x0_5"])
def test_other_widths_multiply_the_channels(name: str) -> None:
    share = {"osnet_x0_75": 0.75, "osnet_x0_5": 0.5}[name]
    backbone = find_backbone(name)
    assert [end.channels for end in backbone.stage_ends] == [share * c for c in (256, 384, 512)]
    assert backbone.feature_dim == 512
    assert backbone.map_sizes(16, (256, 128)) == ((64, 32), (32, 16), (16, 8))
    assert backbone.map_sizes(8, (256, 128)) == ((64, 32), (32, 16), (32, 16))
