"""How good a network of the supernet is, without training it: mAP with the supernet's weights.

Queries are the images that train the architecture: their identities are known to the weights, the
images are not. The gallery is they and those that BatchNorm's statistics are measured on, and as in
every evaluation here, what shows a query's identity from its own camera is left out.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig
from dcsnas.data.reid import Sample, has_matches
from dcsnas.evaluation.features import retrieve
from dcsnas.evaluation.ranking import RetrievalResult
from dcsnas.nn.build import build
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.inherit import inherit_weights, recalibrate
from dcsnas.nn.reid import ReidNetwork
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import Choice, SearchSpace
from dcsnas.training.batchnorm_statistics import images_for_statistics, plain_batches


class Validator:
    """Scores networks of ``space`` on the architecture's part of the training images.

    ``parts`` are the weights' images, on which BatchNorm's statistics are measured, and the
    architecture's.
    """

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        size: Size,
        parts: tuple[Sequence[Sample], Sequence[Sample]],
        num_classes: int,
    ) -> None:
        self.config = config
        self.space = space
        self.size = size
        known, self.held_out = parts
        self.known = images_for_statistics(known)
        self.num_classes = num_classes

    def refuse_without_matches(self) -> None:
        """Raise UserError where no image of the architecture's part can be found elsewhere."""
        if not has_matches(self.held_out, [*self.held_out, *self.known]):
            raise UserError(
                f"{self.config.data.root}: no image of the architecture's part has its identity in "
                "another camera, so networks cannot be scored during the search; set "
                "validate_every to 0 and take another strategy than random"
            )

    def network(
        self, layers: Mapping[str, Tensor], neck: Mapping[str, Tensor], choice: Choice
    ) -> ReidNetwork:
        """Return the network of ``choice``, ready to evaluate: weights sliced, recalibrated.

        ``layers`` are the supernet's weights, ``neck`` its neck's; neither is changed, and the
        random state is left as it is.
        """
        device = pick_device(self.config.run.device)
        with torch.random.fork_rng():  # modules draw weights when they are made
            backbone = build(self.space.architecture(choice))
            network = ReidNetwork(backbone, backbone.feature_dim, self.num_classes)
        report = inherit_weights(backbone, layers)
        assert not report.left, report.left
        network.neck.load_state_dict(dict(neck))
        batches = plain_batches(self.known, self.size, self.config.data, device)
        recalibrate(network.to(device), batches)
        return network

    def score(self, supernet: nn.Module, neck: nn.Module, choice: Choice) -> float:
        """Return the mAP in percent of the network of ``choice`` under the supernet's weights."""
        return 100 * self.retrieval(network_weights(supernet), neck.state_dict(), choice).map

    def retrieval(
        self, layers: Mapping[str, Tensor], neck: Mapping[str, Tensor], choice: Choice
    ) -> RetrievalResult:
        """Return how well the network of ``choice`` retrieves under these weights."""
        return retrieve(
            self.network(layers, neck, choice),
            self.held_out,
            [*self.held_out, *self.known],
            size=self.size,
            data=self.config.data,
            device=pick_device(self.config.run.device),
        )
