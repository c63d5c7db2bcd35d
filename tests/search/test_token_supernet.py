"""A choice of kinds inside of a transformer's blocks: certain choices are the plain networks."""

import pytest
import torch

from dcsnas.nn.attention.block import attention_blocks
from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.search.fbnetv2 import GivenSupernet
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.space import load_space

SPACE = load_space("vit_base", ("none", "dcs"))
SIZE = (32, 16)


@pytest.fixture(scope="module")
def supernet() -> GivenSupernet:
    torch.manual_seed(0)
    made = GivenSupernet(SPACE).eval()
    for block in attention_blocks(made).values():
        for parameter in block.search_parameters():
            torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("kind", ["none", "dcs"])
@torch.no_grad()
def test_a_certain_choice_is_the_plain_network(supernet: GivenSupernet, kind: str) -> None:
    images = torch.randn(2, 3, *SIZE)
    sure = [float(option == kind) for option in ("none", "dcs")]
    found = supernet(images, {decision.label: sure for decision in SPACE.decisions})
    network = build(SPACE.architecture({d.label: kind for d in SPACE.decisions}))
    report = inherit_weights(network, network_weights(supernet.supernet))
    assert not report.left
    torch.testing.assert_close(network.eval()(images), found)


def test_probabilities_get_gradients(supernet: GivenSupernet) -> None:
    given = {d.label: torch.full((2,), 0.5, requires_grad=True) for d in SPACE.decisions}
    supernet(torch.randn(1, 3, *SIZE), given).square().sum().backward()
    assert len(given) == 12
    for probabilities in given.values():
        assert probabilities.grad is not None
        assert probabilities.grad.abs().sum() > 0
