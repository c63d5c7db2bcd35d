"""Which camera took an image, for networks that use it: an embedding of each camera.

Source: He et al., "TransReID", ICCV 2021, Section 3.3 (side information embeddings).
Shapes: B images, K cameras, C channels.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError


class CameraEmbedding(nn.Module):
    """A trained vector for each of K cameras; that of an unknown camera is their mean.

    ``numbers`` are the cameras' numbers in the data, 1 to K until ``name_cameras`` says otherwise;
    they are saved with the weights. ``seen_by`` says whose the images are that come.
    """

    numbers: Tensor

    def __init__(self, cameras: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cameras, channels))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.register_buffer("numbers", torch.arange(1, cameras + 1))
        self.seen: Tensor | None = None

    def forward(self) -> Tensor:
        """Return the vectors [B, C] of the cameras that are set, or [1, C] of an unknown one.

        Raises UserError for a camera that it has no vector of.
        """
        if self.seen is None:
            return self.weight.mean(0, keepdim=True)
        same = self.seen.to(self.numbers.device)[:, None] == self.numbers
        if not bool(same.any(1).all()):
            others = sorted(set(self.seen.tolist()) - set(self.numbers.tolist()))
            raise UserError(
                f"camera {_listed(others)}: the network knows {_listed(self.numbers.tolist())}; "
                "give images of these, without cameras (embed), or train one that knows more"
            )
        return self.weight[same.int().argmax(1)]


def _embeddings(network: nn.Module) -> list[CameraEmbedding]:
    return [module for module in network.modules() if isinstance(module, CameraEmbedding)]


def name_cameras(network: nn.Module, cameras: Iterable[int]) -> None:
    """Have ``network`` know the cameras of its training images by their numbers, if it uses them.

    Raises UserError where there are more than it has vectors for.
    """
    found = sorted(set(cameras))
    for embedding in _embeddings(network):
        known = len(embedding.numbers)
        if len(found) > known:
            raise UserError(
                f"the training images are of {len(found)} cameras ({_listed(found)}), the network "
                f"has embeddings of {known}; take a backbone for as many, such as "
                f"transreid_c{len(found)}"
            )
        # what is left over stays without images, under numbers that no data set has
        spare = [-1 - index for index in range(known - len(found))]
        embedding.numbers.copy_(torch.tensor([*found, *spare]))


@contextmanager
def seen_by(network: nn.Module, cameras: Tensor | None) -> Iterator[None]:
    """Have ``network`` know inside the block that images [B, ...] are of ``cameras`` [B].

    None is unknown cameras. Networks that use none take no notice.
    """
    embeddings = _embeddings(network)
    for embedding in embeddings:
        embedding.seen = cameras
    try:
        yield
    finally:
        for embedding in embeddings:
            embedding.seen = None


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in numbers if number >= 0)
