"""The evaluate stage: weights and a data set in, metrics.json out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.data.reid import ReidData, samples_digest
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.information import fisher_score, measure_information
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import ApRule, evaluate_retrieval, nearest
from dcsnas.evaluation.record import Evaluation
from dcsnas.evaluation.reranking import KReciprocal, Reranked
from dcsnas.evaluation.roc import verify
from dcsnas.evaluation.selection import SelectionCounter
from dcsnas.nn.build import build
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.reid import ReidNetwork
from dcsnas.nn.weights import WITH_NECK, WeightsHeader, load_weights, read_header
from dcsnas.spaces.architecture import ArchitectureFile

NEIGHBOURS = 10


class _Rules(TypedDict):
    camera_filter: bool
    device: torch.device


def load_reid_network(path: Path) -> tuple[ReidNetwork, WeightsHeader, ArchitectureFile]:
    """Return the network of ``retrain`` or ``derive --weights``; raises UserError for others."""
    header = read_header(path)
    if header.stage not in WITH_NECK or header.architecture is None:
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
    data: ReidData,
    *,
    device: str = "auto",
    workers: int = 2,
    threads: int | None = None,
    ib_size: tuple[int, int] = (16, 8),
    camera_filter: bool = True,
    ap: ApRule = "plain",
    flip: bool = False,
    rerank: KReciprocal | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate ``weights`` on query and gallery, as in papers' tables; information is on train."""
    network, header, _ = load_reid_network(weights)
    torch.set_num_threads(threads or torch.get_num_threads())
    rules: _Rules = {"camera_filter": camera_filter, "device": pick_device(device)}
    extractor = Extractor(
        network,
        size=header.input,
        mean=header.mean,
        std=header.std,
        device=rules["device"],
        workers=workers,
        flip=flip,
    )
    advance = _counted(progress, len(data.train) + len(data.query) + len(data.gallery))
    with (selection := SelectionCounter(network)).counting():
        query, gallery = (extractor.embed(part, advance) for part in (data.query, data.gallery))
    tensors = extractor.information(data.train, advance, ib_size=ib_size)
    scorer = Reranked(query, gallery, rerank, device=rules["device"]) if rerank else None
    return Evaluation(
        retrieval=evaluate_retrieval(query, gallery, ap=ap, scorer=scorer, **rules),
        verification=verify(query, gallery, **rules),
        information=measure_information(*tensors, data.num_identities),
        fisher_score=_fisher_score(query, gallery),
        selected_channels=selection.shares(),
        data=_statement(data),
        variant=data.variant,
        counts=_counts(data),
        neighbours=nearest(query, gallery, k=NEIGHBOURS, scorer=scorer, **rules).tolist(),
        input=header.input,
        ib_size=ib_size,
        flip=flip,
        rerank=rerank,
        chosen_epoch=header.chosen_epoch,
    )


def save_evaluation(
    path: Path, evaluation: Evaluation, data_root: Path, latency: Mapping[str, Any]
) -> None:
    """Write ``path`` (metrics.json) and, for pictures of the ranking, neighbours.json beside it."""
    write_json(path, {**evaluation.record(), "latency": dict(latency)})
    variant = evaluation.variant.model_dump(mode="json")
    data = {"data": str(data_root.resolve()), "variant": variant}
    ranking = {**data, "neighbours": evaluation.neighbours}
    write_json(path.with_name("neighbours.json"), ranking)


def _counted(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress(done, total)

    return advance


def _fisher_score(query: Embeddings, gallery: Embeddings) -> float | None:
    """Return the score over all images of the queries' identities; None where there is but one."""
    identities = query.identities.unique()
    if len(identities) < 2:
        return None
    known = torch.isin(gallery.identities, identities)
    features = torch.cat([query.features, gallery.features[known]])
    return fisher_score(features, torch.cat([query.identities, gallery.identities[known]]))


def _statement(data: ReidData) -> dict[str, str]:
    """Say which data set it is, also where two folders have the same name."""
    parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
    digests = {f"{part}_digest": samples_digest(samples) for part, samples in parts.items()}
    return {"name": data.root.resolve().name, "set": data.title, **digests}


def _counts(data: ReidData) -> dict[str, int]:
    return {
        "train": len(data.train),
        "query": len(data.query),
        "gallery": len(data.gallery),
        "train_identities": data.num_identities,
        "query_identities": len({sample.identity for sample in data.query}),
    }
