"""Person Re-ID data sets: query, gallery, and training images with labels 0..C-1.

``sets/`` reads the layouts; a set of any layout is the same here.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.config.files import digest
from dcsnas.config.runs import Input
from dcsnas.config.stages import DEFAULT_VARIANT, VariantConfig
from dcsnas.data.sets.faults import Level
from dcsnas.data.sets.layouts import scan_set
from dcsnas.data.sets.published import identify
from dcsnas.data.sets.scan import Sample as Sample
from dcsnas.data.sets.scan import TaskData as TaskData
from dcsnas.data.sets.scan import cameras_of


@dataclass(frozen=True)
class ReidData(TaskData):
    """A Re-ID data set: the training identities are the labels 0..C-1, in the order of their names.

    ``train_identities[label]`` is the identity in the file names; query and gallery keep theirs.
    ``title`` says which layout and which variant was read.
    """

    train_identities: tuple[int, ...]
    title: str
    variant: VariantConfig = DEFAULT_VARIANT

    @property
    def query(self) -> tuple[Sample, ...]:
        """Return the probes."""
        return self.probes

    @property
    def gallery(self) -> tuple[Sample, ...]:
        """Return the references."""
        return self.references


def has_matches(query: Sequence[Sample], gallery: Sequence[Sample]) -> bool:
    """Return whether any query has its identity in another camera of the gallery."""
    cameras = cameras_of(gallery)
    return any(cameras[sample.identity] - {sample.camera} for sample in query)


def read_reid(root: Path, variant: VariantConfig = DEFAULT_VARIANT) -> ReidData:
    """Return the data set ``root``, a folder of any known layout or a CSV file; opens no image.

    Raises UserError where the layout, a name, a list or the number of identities is not as needed.
    Warns where the authors of the set have withdrawn it.
    """
    scan = scan_set(root, variant)
    errors = [finding for finding in scan.findings if finding.fault.level is Level.ERROR]
    if errors:
        others = len(errors) - 1
        more = f" ({others:,} more: dcsnas data check {root})" if others else ""
        raise UserError(f"{errors[0].message}{more}")
    known = identify(root, scan)
    if known and known.notice:
        warnings.warn(known.notice, stacklevel=2)
    identities = sorted({sample.identity for sample in scan.train})
    label = {identity: index for index, identity in enumerate(identities)}
    return ReidData(
        root=root,
        train=tuple(replace(sample, identity=label[sample.identity]) for sample in scan.train),
        num_classes=len(identities),
        probes=scan.query,
        references=scan.gallery,
        train_identities=tuple(identities),
        title=scan.title,
        variant=variant,
    )


def samples_digest(samples: Sequence[Sample]) -> str:
    """Return 16 hexadecimal digits that identify the files, identities and cameras of a set."""
    return digest([[s.path.name, s.identity, s.camera] for s in samples])


def samples_input(root: Path, samples: Sequence[Sample]) -> Input:
    """Return what a run is told of the set at ``root`` of which it reads ``samples``."""
    facts = {
        "images": len(samples),
        "identities": len({sample.identity for sample in samples}),
        "cameras": len({sample.camera for sample in samples}),
    }
    return Input(samples_digest(samples), str(root), facts, "data.root")


def split_train(
    samples: Sequence[Sample], *, fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Split every identity's images into ``fraction`` for weights, the rest for architecture.

    Each identity with two images or more is in both parts, one with a single image in the first;
    the labels and the order of ``samples`` are kept. Raises UserError where no split is possible.
    """
    if not 0 < fraction < 1:
        raise UserError(
            f"the share of images for the weights is {fraction}; give a number in (0, 1)"
        )
    positions: dict[int, list[int]] = {}
    for position, sample in enumerate(samples):
        positions.setdefault(sample.identity, []).append(position)
    rng = np.random.default_rng(seed)
    second: set[int] = set()
    for identity in sorted(positions):
        count = len(positions[identity])
        kept = 1 if count == 1 else min(max(round(count * fraction), 1), count - 1)
        second.update(rng.permutation(positions[identity])[kept:].tolist())
    if not second:
        raise UserError(
            f"the {len(samples)} training images show each identity once, which leaves none for the"
            " architecture's part of the split; at least one identity with two images is needed"
        )
    parts = ([], [])
    for position, sample in enumerate(samples):
        parts[position in second].append(sample)
    return tuple(parts[0]), tuple(parts[1])
