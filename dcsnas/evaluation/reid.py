"""The evaluation of a re-identification network: retrieval, verification, information."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch

from dcsnas.config.errors import UserError
from dcsnas.data.reid import ReidData, Sample, samples_digest
from dcsnas.evaluation.features import Extractor, Progress, counted
from dcsnas.evaluation.information import fisher_score, measure_information
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import ApRule, evaluate_retrieval, nearest
from dcsnas.evaluation.record import Evaluation, percentages
from dcsnas.evaluation.reranking import KReciprocal, Reranked
from dcsnas.evaluation.roc import verify
from dcsnas.evaluation.selection import SelectionCounter
from dcsnas.nn.heads import BNNeck
from dcsnas.nn.weights import NetworkInUse, WeightsHeader, load_network, read_header

TASK = "reid"
NEIGHBOURS = 10


class _Rules(TypedDict):
    camera_filter: bool
    device: torch.device


def load_reid_network(given: Path | NetworkInUse) -> NetworkInUse:
    """Return the network of ``retrain`` or ``derive --weights``; raises UserError for others.

    One in memory is returned as it is.
    """
    header = read_header(given) if isinstance(given, Path) else given.header
    if header.task != TASK:
        raise UserError(
            f"{given}: holds a network of task '{header.task}', whose features are not made to be "
            f"compared; give one of task {TASK}"
        )
    return load_network(given, BNNeck) if isinstance(given, Path) else given


def evaluate_reid(
    extractor: Extractor,
    header: WeightsHeader,
    data: ReidData,
    *,
    ib_size: tuple[int, int] = (16, 8),
    ib_temperature: float = 1.0,
    ib_centered: bool = True,
    camera_filter: bool = True,
    ap: ApRule = "plain",
    flip: bool = False,
    rerank: KReciprocal | bool | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Evaluate on query and gallery, as in papers' tables; information is on train."""
    rerank = KReciprocal() if rerank is True else rerank or None
    rules: _Rules = {"camera_filter": camera_filter, "device": extractor.device}
    advance = counted(progress, len(data.train) + len(data.query) + len(data.gallery))
    with (selection := SelectionCounter(extractor.network)).counting():
        query, gallery = (
            extractor.embed(part, advance, flip=flip) for part in (data.query, data.gallery)
        )
    # also where two folders have the same name
    parts = {"train": data.train, "query": data.query, "gallery": data.gallery}
    digests = {f"{part}_digest": samples_digest(samples) for part, samples in parts.items()}
    tensors = extractor.information(data.train, advance, ib_size=ib_size)
    measure = partial(measure_information, temperature=ib_temperature, centered=ib_centered)
    scorer = Reranked(query, gallery, rerank, device=rules["device"]) if rerank else None
    return Evaluation(
        retrieval=evaluate_retrieval(query, gallery, ap=ap, scorer=scorer, **rules),
        verification=verify(query, gallery, **rules),
        information=measure(*tensors, data.num_classes),
        fisher_score=_fisher_score(query, gallery),
        selected_channels=selection.shares(),
        root=data.root,
        data={"name": data.root.resolve().name, "set": data.title, **digests},
        variant=data.variant,
        feature=extractor.network.neck.compared,
        counts={
            **{part: len(samples) for part, samples in parts.items()},
            "train_identities": data.num_classes,
            "query_identities": len({sample.identity for sample in data.query}),
        },
        neighbours=nearest(query, gallery, k=NEIGHBOURS, scorer=scorer, **rules).tolist(),
        input=header.input,
        ib_size=ib_size,
        flip=flip,
        rerank=rerank,
        chosen_epoch=header.chosen_epoch,
    )


def retrieve(
    extractor: Extractor, query: Sequence[Sample], gallery: Sequence[Sample]
) -> dict[str, float]:
    """Return the scores of retrieval in percent, by the default rules.

    An image that is in both is run once.
    """
    images = list(dict.fromkeys([*query, *gallery]))
    found, row = extractor.embed(images), {sample: row for row, sample in enumerate(images)}
    parts = (found.at([row[sample] for sample in part]) for part in (query, gallery))
    return percentages(evaluate_retrieval(*parts, device=extractor.device))


def _fisher_score(query: Embeddings, gallery: Embeddings) -> float | None:
    """Return the score over all images of the queries' identities; None where there is but one."""
    identities = query.identities.unique()
    if len(identities) < 2:
        return None
    known = torch.isin(gallery.identities, identities)
    features = torch.cat([query.features, gallery.features[known]])
    return fisher_score(features, torch.cat([query.identities, gallery.identities[known]]))
