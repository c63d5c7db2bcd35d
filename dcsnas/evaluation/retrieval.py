"""How well a network in memory retrieves, without the files and the other measures of a result."""

from collections.abc import Sequence

import torch

from dcsnas.config.stages import DataConfig, Size
from dcsnas.data.reid import Sample
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.ranking import RetrievalResult, evaluate_retrieval
from dcsnas.nn.reid import ReidNetwork


def retrieve(
    network: ReidNetwork,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    *,
    size: Size,
    data: DataConfig,
    device: torch.device,
) -> RetrievalResult:
    """Return the scores of ``network``, which goes to ``device``, under the default rules."""
    extractor = Extractor(
        network, size=size, mean=data.mean, std=data.std, device=device, workers=data.workers
    )
    parts = (extractor.embed(part, lambda images: None) for part in (query, gallery))
    return evaluate_retrieval(*parts, device=device)
