"""How good a network of the supernet is, without training it: mAP with the supernet's weights.

Queries are the images that train the architecture: their identities are known to the weights, the
images are not. The gallery is they and those that BatchNorm's statistics are measured on, and as in
every evaluation here, what shows a query's identity from its own camera is left out.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dcsnas.config.search import SearchConfig
from dcsnas.data.augment import Normalize
from dcsnas.data.loading import ImageSet, make_loader
from dcsnas.data.reid import Sample
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.nn.build import build
from dcsnas.nn.inherit import inherit_weights
from dcsnas.nn.recalibrate import recalibrate
from dcsnas.nn.reid import ReidNetwork
from dcsnas.search.supernet import layer_weights
from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import Choice, SearchSpace

RECALIBRATION_IMAGES = 1024
"""Images for BatchNorm's statistics: evenly spaced over those that train the weights."""
BATCH = 128


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
        self.known = known[:: max(1, len(known) // RECALIBRATION_IMAGES)]
        self.num_classes = num_classes

    def score(self, supernet: nn.Module, neck: nn.Module, choice: Choice) -> float:
        """Return the mAP in percent of the network of ``choice``, weights sliced, recalibrated.

        ``supernet`` and ``neck`` are left as they are.
        """
        device = next(neck.parameters()).device
        backbone = build(self.space.architecture(choice), torch.Generator().manual_seed(0))
        inherit_weights(backbone, layer_weights(supernet))
        network = ReidNetwork(backbone, backbone.feature_dim, self.num_classes)
        network.neck.load_state_dict(neck.state_dict())
        data = self.config.data
        extractor = Extractor(
            network,
            size=self.size,
            mean=data.mean,
            std=data.std,
            device=device,
            workers=data.workers,
        )
        recalibrate(network, self._batches(device))
        query = extractor.embed(self.held_out, lambda images: None)
        gallery = extractor.embed([*self.held_out, *self.known], lambda images: None)
        return 100 * evaluate_retrieval(query, gallery).map

    def _batches(self, device: torch.device) -> Iterator[Tensor]:
        data = self.config.data
        normalize = Normalize(data.mean, data.std).to(device)
        images = ImageSet(self.known, self.size)
        loader = make_loader(images, batch_size=BATCH, workers=data.workers, seed=0)
        for batch in loader:
            yield normalize(batch.images.to(device))
