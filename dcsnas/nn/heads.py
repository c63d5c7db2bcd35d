"""What a task puts on a backbone: a head that maps its features to logits.

Source: Luo et al., "Bag of Tricks", CVPRW 2019 (the neck).
Shapes: B images, D features, C classes.
"""

from typing import NamedTuple

from torch import Tensor, nn

from dcsnas.nn.distributed import BatchWide, batch_norm


class Output(NamedTuple):
    """What the losses need: the backbone's features [B, D], and logits [B, C]."""

    features: Tensor
    logits: Tensor


class Head(nn.Module):
    """Maps features [B, D] to logits [B, C]."""

    def embed(self, features: Tensor) -> Tensor:
        """Return what images are compared by, for features [B, D]: these, unless a head differs."""
        return features


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


class TaskNetwork(nn.Module):
    """A backbone and a task's head on it, which a weights file holds as ``neck``."""

    def __init__(self, backbone: nn.Module, neck: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, images: Tensor) -> Output:
        """Return features and logits of normalised images [B, 3, H, W]."""
        features = self.backbone(images)
        return Output(features, self.neck(features))

    def embed(self, images: Tensor) -> Tensor:
        """Return what normalised images [B, 3, H, W] are compared by, [B, D]."""
        return self.neck.embed(self.backbone(images))
