"""Cameras reach networks that use them, by their numbers in the data."""

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.nn.cameras import CameraEmbedding, name_cameras, seen_by


class Seeing(nn.Module):
    """Adds its camera's vector to images that are vectors [B, 4]."""

    def __init__(self, cameras: int) -> None:
        super().__init__()
        self.embedding = CameraEmbedding(cameras, 4)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.embedding()


@pytest.fixture
def network() -> Seeing:
    torch.manual_seed(0)
    return Seeing(3)


def test_cameras_are_known_inside_of_the_block_alone(network: Seeing) -> None:
    images, weight = torch.zeros(2, 4), network.embedding.weight
    mean = weight.mean(0).expand(2, 4)
    assert torch.equal(network(images), mean), "an unknown camera gets the mean of all"
    with seen_by(network, torch.tensor([3, 1])):
        assert torch.equal(network(images), weight[[2, 0]])
    assert torch.equal(network(images), mean)
    with seen_by(network, None):
        assert torch.equal(network(images), mean)
    with pytest.raises(ZeroDivisionError), seen_by(network, torch.tensor([1, 1])):
        _ = 1 / 0
    assert torch.equal(network(images), mean)


def test_numbers_are_those_of_the_training_images_and_saved(network: Seeing) -> None:
    name_cameras(network, [7, 0, 7])
    restored = Seeing(3)
    restored.load_state_dict(network.state_dict())
    with seen_by(restored, torch.tensor([0, 7])):
        assert torch.equal(restored(torch.zeros(2, 4)), network.embedding.weight[:2])
    with (
        seen_by(restored, torch.tensor([7, 9, 2])),
        pytest.raises(UserError, match=r"camera 2, 9: the network knows 0, 7; give images of"),
    ):
        restored(torch.zeros(3, 4))


def test_more_cameras_than_embeddings_are_refused_before_training(network: Seeing) -> None:
    with pytest.raises(UserError) as stop:
        name_cameras(network, [1, 2, 3, 4])
    assert str(stop.value) == (
        "the training images are of 4 cameras (1, 2, 3, 4), the network has embeddings of 3; take "
        "a backbone for as many, such as transreid_c4"
    )


def test_networks_without_cameras_take_no_notice() -> None:
    plain = nn.Linear(4, 4)
    name_cameras(plain, range(100))
    with seen_by(plain, torch.tensor([1])):
        assert plain(torch.zeros(1, 4)).shape == (1, 4)
