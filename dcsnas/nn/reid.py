"""The re-identification network: backbone, BNNeck, classifier.

Source: Luo et al., "Bag of Tricks", CVPRW 2019 (the neck).
Shapes: B images, D features, C identities.
"""

from typing import NamedTuple

from torch import Tensor, nn

from dcsnas.nn.distributed import BatchWide, batch_norm


class ReidOutput(NamedTuple):
    """What the losses need: features before the neck [B, D], and logits [B, C]."""

    features: Tensor
    logits: Tensor


class NeckNorm(BatchWide, nn.BatchNorm1d):
    """BatchNorm of feature vectors."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``input`` [B, D]."""
        if self.across_processes and self.training:
            return batch_norm(self, input)
        return super().forward(input)


class BNNeck(nn.Module):
    """BatchNorm without a trained shift, then a classifier without bias."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = NeckNorm(feature_dim)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(feature_dim, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Map features [B, D] to logits [B, C]."""
        return self.classifier(self.norm(features))


class ReidNetwork(nn.Module):
    """A backbone with a BNNeck; retrieval uses the features after the neck's BatchNorm."""

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = BNNeck(feature_dim, num_classes)

    def forward(self, images: Tensor) -> ReidOutput:
        """Return features and logits of normalised images [B, 3, H, W]."""
        features = self.backbone(images)
        return ReidOutput(features, self.neck(features))

    def embed(self, images: Tensor) -> Tensor:
        """Return the retrieval features [B, D] of normalised images [B, 3, H, W]."""
        return self.neck.norm(self.backbone(images))
