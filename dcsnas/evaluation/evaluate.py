"""The evaluate stage: weights and a data set in, metrics.json out."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.data.reid import ReidData, read_reid
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.ranking import RetrievalResult, evaluate_retrieval, nearest
from dcsnas.losses.information import (
    class_means,
    conditional,
    ib_loss,
    information_bound,
    soft_assignment,
)
from dcsnas.nn.build import build
from dcsnas.nn.device import pick_device
from dcsnas.nn.reid import ReidNetwork
from dcsnas.nn.weights import WeightsHeader, load_weights, read_header
from dcsnas.spaces.architecture import ArchitectureFile

RANKS = (1, 5, 10)
NEIGHBOURS = 10


@dataclass(frozen=True)
class Information:
    """IB loss I(F; X) - I(F; Y) and its bound IBB on the training images, in nats (Section 3.3)."""

    ib_loss: float
    ibb: float


@dataclass(frozen=True)
class Evaluation:
    """Everything that is measured of one trained network."""

    retrieval: RetrievalResult
    information: Information
    counts: dict[str, int]
    neighbours: list[list[int]]
    """For every query the positions of its nearest gallery images, nearest first; -1 is none."""

    def percentages(self) -> dict[str, float]:
        """Return mAP, Rank-k and mINP in percent."""
        result = self.retrieval
        ranks = {f"rank{k}": 100 * result.rank(k) for k in RANKS}
        return {"map": 100 * result.map, **ranks, "minp": 100 * result.minp}

    def record(self) -> dict[str, object]:
        """Return plain values for ``metrics.json``, the protocol stated with the numbers."""
        retrieval = asdict(self.retrieval)
        protocol = {
            "feature": "after the neck's BatchNorm",
            "metric": self.retrieval.metric,
            "ap_rule": self.retrieval.ap_rule,
            "camera_filter": self.retrieval.camera_filter,
            "re_ranking": False,
        }
        return {
            **self.percentages(),
            "cmc": retrieval["cmc"],
            **asdict(self.information),
            "protocol": protocol,
            "counts": self.counts,
        }


def load_reid_network(path: Path) -> tuple[ReidNetwork, WeightsHeader, ArchitectureFile]:
    """Return the trained network of a ``retrain`` run; raises UserError for anything else."""
    header = read_header(path)
    if header.stage != "retrain" or header.architecture is None:
        raise UserError(
            f"{path}: holds weights of stage '{header.stage}', which has no re-identification "
            "neck; give the model.safetensors of a retrain run"
        )
    backbone = build(header.architecture.network)
    network = ReidNetwork(backbone, backbone.feature_dim, header.num_classes)
    load_weights(path, network, architecture=header.architecture)
    return network, header, header.architecture


def evaluate(
    weights: Path,
    data_root: Path,
    *,
    device: str = "auto",
    workers: int = 2,
    threads: int | None = None,
    ib_size: tuple[int, int] = (16, 8),
    camera_filter: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate the network in ``weights`` on query and gallery, and its information on train."""
    network, header, _ = load_reid_network(weights)
    data = read_reid(data_root)
    if threads:
        torch.set_num_threads(threads)
    extractor = Extractor(
        network,
        size=header.input,
        mean=header.mean,
        std=header.std,
        device=pick_device(device),
        workers=workers,
    )
    counts = {"train": len(data.train), "query": len(data.query), "gallery": len(data.gallery)}
    total, done = sum(counts.values()), 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(done, total)

    query = extractor.embed(data.query, advance)
    gallery = extractor.embed(data.gallery, advance)
    retrieval = evaluate_retrieval(query, gallery, camera_filter=camera_filter)
    shown = nearest(query, gallery, k=NEIGHBOURS, camera_filter=camera_filter)
    tensors = extractor.information(data.train, advance, ib_size=ib_size)
    information = information_of(*tensors, data)
    return Evaluation(retrieval, information, {**counts, **_identities(data)}, shown.tolist())


def save_evaluation(
    path: Path, evaluation: Evaluation, data_root: Path, latency: Mapping[str, Any]
) -> None:
    """Write ``path`` (metrics.json) and, for pictures of the ranking, neighbours.json beside it."""
    write_json(path, {**evaluation.record(), "latency": dict(latency)})
    ranking = {"data": str(data_root.resolve()), "neighbours": evaluation.neighbours}
    write_json(path.with_name("neighbours.json"), ranking)


def information_of(features: Tensor, inputs: Tensor, labels: Tensor, data: ReidData) -> Information:
    """Return IB loss and IBB of features F [N, D], inputs X [N, X] and labels [N]."""
    classes = data.num_identities
    features, inputs = features.double(), inputs.double()
    phi_f = soft_assignment(features, class_means(features, labels, classes))
    phi_x = soft_assignment(inputs, class_means(inputs, labels, classes))
    q = conditional(phi_f, labels, classes)
    bound = information_bound(phi_f, phi_x, labels, q)
    return Information(float(ib_loss(phi_f, phi_x, labels)), float(bound))


def _identities(data: ReidData) -> dict[str, int]:
    return {
        "train_identities": data.num_identities,
        "query_identities": len({sample.identity for sample in data.query}),
    }
