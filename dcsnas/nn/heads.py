"""What a task puts on a backbone: a head that maps its features to logits.

Source: Luo et al., "Bag of Tricks", CVPRW 2019 (the neck).
Shapes: B images, D features, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcsnas.nn.distributed import BatchWide, batch_norm
from dcsnas.spaces.backbones import FeaturePart


class Output(NamedTuple):
    """What the losses need: the backbone's features [B, D], and logits [B, C].

    ``parts`` are those of each part of the features where these consist of several; ``extra`` is
    what an objective noted when it ran the network.
    """

    features: Tensor
    logits: Tensor
    parts: tuple["Output", ...] = ()
    extra: Any = None


class Head(nn.Module):
    """Maps features [B, D] to logits [B, C]."""

    compared = "the backbone's"
    """What images are compared by, for people."""

    def embed(self, features: Tensor) -> Tensor:
        """Return what images are compared by, for features [B, D]: these, unless a head differs."""
        return features

    def output(self, features: Tensor) -> Output:
        """Return what the losses need of features [B, D]."""
        return Output(features, self(features))


class LinearHead(Head, nn.Linear):
    """One linear layer."""


class NeckNorm(BatchWide, nn.BatchNorm1d):
    """BatchNorm of feature vectors."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` [B, D]."""
        if self.across_processes and self.training:
            return batch_norm(self, input)
        return super().forward(input)


class BNNeck(Head):
    """BatchNorm without a trained shift, then a classifier without bias."""

    compared = "after the neck's BatchNorm"

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = NeckNorm(feature_dim)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(feature_dim, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def embed(self, features: Tensor) -> Tensor:
        """Return the features [B, D] after the BatchNorm."""
        return self.norm(features)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, C]."""
        return self.classifier(self.norm(features))


class PartsHead(Head):
    """A head for each of several vectors that the features consist of; P is their number.

    The classes are told by the mean of the parts' logits, weighted as their losses are.
    """

    def __init__(self, parts: Sequence[FeaturePart], heads: Sequence[Head]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.heads = nn.ModuleList(heads)
        self.compared = f"{len(heads)} parts, {heads[0].compared}"

    def embed(self, features: Tensor) -> Tensor:
        """Return what the parts of features [B, D] are compared by, side by side [B, D].

        Each as its head gives it, brought to unit length and scaled as its part says.
        """
        found = []
        for part, head, vector in self._each(features):
            compared = head.embed(vector)
            found.append(part.scale * (F.normalize(compared) if part.unit else compared))
        return torch.cat(found, dim=1)

    def output(self, features: Tensor) -> Output:
        """Return what the losses need of features [B, D], of each part too."""
        outputs = tuple(head.output(vector) for _, head, vector in self._each(features))
        weights = [part.loss_weight for part in self.parts]
        pairs = zip(weights, outputs, strict=True)
        logits = sum((w * one.logits for w, one in pairs), torch.zeros(())) / sum(weights)
        return Output(features, logits, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, C]."""
        return self.output(features).logits

    def _each(self, features: Tensor) -> Iterator[tuple[FeaturePart, Head, Tensor]]:
        vectors = features.split([part.length for part in self.parts], dim=1)
        for part, head, vector in zip(self.parts, self.heads, vectors, strict=True):
            assert isinstance(head, Head)
            yield part, head, vector


def head_for(
    parts: Sequence[FeaturePart], head: Callable[[int, int], Head], num_classes: int
) -> Head:
    """Return the head of features of ``parts``: ``head``'s own for one, else one for each.

    ``head`` takes the numbers of features and classes.
    """
    if tuple(parts) == (FeaturePart(parts[0].length),):
        return head(parts[0].length, num_classes)
    return PartsHead(parts, [head(part.length, num_classes) for part in parts])


def plain_head(feature_dim: int, num_classes: int) -> Head:
    """Return a head that holds nothing: images are compared by the features as they are."""
    return Head()


class TaskNetwork(nn.Module):
    """A backbone and a task's head on it, which a weights file holds as ``neck``."""

    def __init__(self, backbone: nn.Module, neck: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, images: Tensor) -> Output:
        """Return features and logits of normalised images [B, 3, H, W]."""
        return self.neck.output(self.backbone(images))

    def embed(self, images: Tensor) -> Tensor:
        """Return what normalised images [B, 3, H, W] are compared by, [B, D]."""
        return self.neck.embed(self.backbone(images))
