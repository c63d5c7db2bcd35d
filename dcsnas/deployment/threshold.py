"""The least similarity of two images of the same person: a threshold at a chosen error rate.

The pairs are those of the evaluation: query and gallery images, without junk and without a query's
identity from its own camera. A wrong pair, of two identities, is accepted by mistake where its
cosine reaches the threshold; the share of those is the false-positive rate (FPR).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from dcsnas.config.stages import DEFAULT_VARIANT, VariantConfig
from dcsnas.config.strict import Strict, validate
from dcsnas.data.reid import Sample, read_reid, samples_digest
from dcsnas.deployment.embedding import Embedder, Identity, Progress
from dcsnas.evaluation.pairs import DotProducts, Embeddings, Pairs, queries_with_a_match
from dcsnas.evaluation.roc import verify

_CHUNK = 64


class Threshold(Strict):
    """``threshold.json``: the least cosine at which two images are called the same person."""

    schema_version: Literal[1] = 1
    dcsnas: str = __version__
    weights: str
    """Digest of the weights file, without which the threshold means nothing."""
    architecture: str
    threshold: float
    fpr: float
    """The rate asked for; ``measured_fpr`` is at most this."""
    measured_fpr: float
    measured_tpr: float
    """Share of right pairs that reach the threshold."""
    wrong_pairs: int
    wrong_pairs_accepted: int
    right_pairs: int
    camera_filter: bool
    data: str
    set: str
    """Layout and variant that were read."""
    query_digest: str
    gallery_digest: str


def calibrate(
    embedder: Embedder,
    data_root: Path,
    *,
    fpr: float,
    variant: VariantConfig = DEFAULT_VARIANT,
    camera_filter: bool = True,
    progress: Progress = lambda done, total: None,
) -> Threshold:
    """Return the lowest threshold that at most a share ``fpr`` of the wrong pairs reaches.

    Memory does not grow with the number of pairs. Raises UserError where ``fpr`` is not in (0, 1),
    or so small that not even one of the data set's wrong pairs could be accepted.
    """
    if not 0 < fpr < 1:
        raise UserError(f"--fpr {fpr:g}: a rate between 0 and 1 is needed, such as 0.001")
    data = read_reid(data_root, variant)
    _check_resolution(data_root, data.query, data.gallery, fpr, camera_filter)
    embeddings = embedder.embed_samples([*data.query, *data.gallery], progress)
    query, gallery = _split(embeddings, len(data.query))
    result = verify(query, gallery, fprs=[fpr], camera_filter=camera_filter, device=embedder.device)
    (point,) = result.points
    accepted = _wrong_pairs_from(
        point.threshold, query, gallery, camera_filter=camera_filter, device=embedder.device
    )
    return Threshold(
        **vars(embedder.identity),
        threshold=point.threshold,
        fpr=fpr,
        measured_fpr=accepted / result.num_wrong,
        measured_tpr=point.tpr,
        wrong_pairs=result.num_wrong,
        wrong_pairs_accepted=accepted,
        right_pairs=result.num_right,
        camera_filter=camera_filter,
        data=data.root.resolve().name,
        set=data.title,
        query_digest=samples_digest(data.query),
        gallery_digest=samples_digest(data.gallery),
    )


def threshold_path(weights: Path) -> Path:
    """Return where the threshold of ``weights`` lies unless another place is given."""
    return weights.with_name("threshold.json")


def save_threshold(path: Path, threshold: Threshold) -> None:
    """Write ``path`` atomically."""
    write_json(path, threshold.model_dump(mode="json"))


def load_threshold(path: Path, identity: Identity) -> Threshold:
    """Return the threshold in ``path``; raises UserError where it was made for another network."""
    threshold = validate(Threshold, read_json(path), path)
    if threshold.weights != identity.weights:
        raise UserError(
            f"{path}: calibrated for other weights (digest {threshold.weights}) than these "
            f"({identity.weights}); run dcsnas calibrate with these"
        )
    return threshold


def _check_resolution(
    root: Path,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    fpr: float,
    camera_filter: bool,
) -> None:
    """Raise UserError where a share ``fpr`` of the wrong pairs is less than one of them."""
    labels = _labels(query), _labels(gallery)
    pairs = Pairs.of(*labels, camera_filter=camera_filter)
    valid = queries_with_a_match(*labels, pairs)
    same = sum(len(pairs.matches[q]) + len(pairs.removed[q]) for q in valid)
    wrong = len(valid) * len(pairs.kept) - same
    if wrong * fpr * (1 + 1e-12) < 1:
        allowed = f"{1 / wrong:.2g} or more" if wrong else "none, as all are of one identity"
        raise UserError(
            f"--fpr {fpr:g}: {root} has {wrong:,} pairs of two identities, of which this is less "
            f"than one; allowed: {allowed}; choose a larger rate, or calibrate on more images"
        )


def _labels(samples: Sequence[Sample]) -> Embeddings:
    identities = torch.tensor([sample.identity for sample in samples])
    cameras = torch.tensor([sample.camera for sample in samples])
    return Embeddings(torch.empty(len(samples), 0), identities, cameras)


def _split(embeddings: Embeddings, count: int) -> tuple[Embeddings, Embeddings]:
    """Return the first ``count`` images and the rest."""
    names = embeddings.names
    first, rest = (
        Embeddings(
            embeddings.features[part],
            embeddings.identities[part],
            embeddings.cameras[part],
            None if names is None else names[part],
        )
        for part in (slice(count), slice(count, None))
    )
    return first, rest


def _wrong_pairs_from(
    threshold: float,
    query: Embeddings,
    gallery: Embeddings,
    *,
    camera_filter: bool,
    device: torch.device,
) -> int:
    """Return how many wrong pairs have a cosine of at least ``threshold``."""
    pairs = Pairs.of(query, gallery, camera_filter=camera_filter)
    valid = queries_with_a_match(query, gallery, pairs)
    products = DotProducts(query, gallery, pairs.kept, metric="cosine", device=device)
    count = 0
    for queries, block in products.blocks(valid, _CHUNK):
        reached = block >= threshold
        for row, q in enumerate(queries):
            for own in (pairs.matches[q], pairs.removed[q]):
                reached[row, torch.from_numpy(own).to(device)] = False
        count += int(reached.sum())
    return count


@dataclass(frozen=True)
class Match:
    """The cosine of two images' features, and whether it reaches the threshold, where one is."""

    similarity: float
    same: bool | None


def match(embedder: Embedder, first: Path, second: Path, threshold: Threshold | None) -> Match:
    """Compare two image files; raises UserError where one cannot be decoded."""
    a, b = embedder.embed([first, second])
    similarity = float(a @ b)
    return Match(similarity, None if threshold is None else similarity >= threshold.threshold)
