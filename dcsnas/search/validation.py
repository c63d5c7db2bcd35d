"""How good a network of the supernet is, without training it: the supernet's weights score it.

Probes are the images that train the architecture: their classes are known to the weights, the
images are not. Where a task compares them with references, these are they and the images that
BatchNorm's statistics are measured on.
"""

from collections.abc import Sequence
from functools import cached_property

import torch

from dcsnas.config.errors import UserError
from dcsnas.config.search import SearchConfig
from dcsnas.data.images import ImageSet
from dcsnas.data.reid import Sample
from dcsnas.nn.build import build
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.heads import TaskNetwork
from dcsnas.nn.inherit import State, inherit_weights, recalibrate
from dcsnas.search.supernet import network_weights
from dcsnas.spaces.layers import Size
from dcsnas.spaces.space import Choice, SearchSpace
from dcsnas.tasks.task import extractor_of, find_task
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
        self.task = find_task(config.task)
        self.space = space
        self.size = size
        known, self.probes = parts
        self.known = images_for_statistics(known)
        self.references = [*self.probes, *self.known]
        self.num_classes = num_classes

    def refuse_unscorable(self) -> None:
        """Raise UserError where no image of the architecture's part can be scored."""
        if reason := self.task.unscorable(self.probes, self.references):
            raise UserError(
                f"{self.config.data.root}: in the architecture's part of the images {reason}, so "
                "networks cannot be scored during the search; set validate_every to 0 and take "
                "another strategy than random"
            )

    @cached_property
    def _images(self) -> ImageSet:
        """What networks are scored on; decoded once for all where the configuration asks for it."""
        data = self.config.data
        images = ImageSet(self.references, self.size, crop=data.crop)
        return images.hold() if data.in_memory else images

    def network(self, layers: State, neck: State, choice: Choice) -> TaskNetwork:
        """Return the network of ``choice``, ready to evaluate: weights sliced, recalibrated.

        ``layers`` are the supernet's weights, ``neck`` its head's; neither is changed, and the
        random state is left as it is.
        """
        device = pick_device(self.config.run.device)
        with torch.random.fork_rng():  # modules draw weights when they are made
            backbone = build(self.space.architecture(choice))
            head = self.task.head_of(backbone.feature_parts, self.num_classes)
        report = inherit_weights(backbone, layers)
        assert not report.left, report.left
        head.load_state_dict(dict(neck))
        network = TaskNetwork(backbone, head).to(device)
        known = self._images.of(self.known)
        recalibrate(network, plain_batches(network, known, self.config.data))
        return network

    def score(self, supernet: TaskNetwork, choice: Choice) -> float:
        """Return the task's metric for the network of ``choice`` under the supernet's weights."""
        layers, neck = network_weights(supernet.backbone), supernet.neck.state_dict()
        return self.scores(layers, neck, choice)[self.task.metric]

    def scores(self, layers: State, neck: State, choice: Choice) -> dict[str, float]:
        """Return the scores in percent of the network of ``choice`` under these weights."""
        network, device = self.network(layers, neck, choice), pick_device(self.config.run.device)
        extractor = extractor_of(network, self.size, self.config.data, device, held=self._images)
        return self.task.score(extractor, self.probes, self.references)
