"""Can the information bound tell classes apart? Features as they are, and from their mean.

Command: .venv/bin/python benchmarks/bound_scale.py FILE... --data DIR

For the weights of each FILE, on eight training images of each of the first 120 identities of a
Re-ID set: the mean cosine between class means, and what soft assignments tell of the identity,
I(F; Y) in nats, by temperature; for features as they are, seen from their mean over these images,
and after the neck. About a minute of one core. The last line is one JSON object.
"""

import argparse
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch
from outcome import conclude
from torch import Tensor
from torch.nn import functional as F

from dcsnas.config.environment import quiet_libraries
from dcsnas.data.reid import Sample, read_reid
from dcsnas.evaluation.features import Extractor, unheard
from dcsnas.losses.bound import mutual_information, soft_assignment
from dcsnas.nn.weights import load_network
from dcsnas.tasks.task import find_task

TEMPERATURES = (1.0, 0.5, 0.2, 0.1)


def some(train: tuple[Sample, ...], identities: int, images: int) -> list[Sample]:
    """Return the first ``images`` of each of the first ``identities``."""
    by_label = groupby(sorted(train, key=attrgetter("identity")), key=attrgetter("identity"))
    return [s for label, own in by_label if label < identities for s in list(own)[:images]]


def told(features: Tensor, labels: Tensor, origin: Tensor) -> dict[str, float]:
    """Return the cosine of class means and I(F; Y) at each temperature, seen from ``origin``."""
    classes = int(labels.max()) + 1
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, labels, features)
    means = sums / torch.bincount(labels)[:, None]
    directions = F.normalize(means - origin, dim=1)
    cosines = (directions @ directions.T)[~torch.eye(classes, dtype=torch.bool)]
    found = {"cosine": float(cosines.mean())}
    for temperature in TEMPERATURES:
        phi = soft_assignment(features, means, temperature, origin)
        joint = phi.new_zeros(classes, classes).index_add(0, labels, phi) / len(labels)
        found[f"nats_at_{temperature:g}"] = float(mutual_information(joint))
    return found


def scale_of(path: Path, samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Return what the features of the weights at ``path`` tell, three ways."""
    used = load_network(path, find_task("reid").head)
    extractor = Extractor.of(used, device="cpu", workers=0)
    features, _, labels = extractor.information(samples, unheard, ib_size=(1, 1))
    features = features.double()
    after = extractor.embed(samples).features.double()
    return {
        "as_they_are": told(features, labels, torch.zeros_like(features[0])),
        "from_the_mean": told(features, labels, features.mean(0)),
        "after_the_neck": told(after, labels, torch.zeros_like(after[0])),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, nargs="+", help="model.safetensors of retrainings")
    parser.add_argument("--data", type=Path, required=True, help="the folder of a Re-ID set")
    parser.add_argument("--identities", type=int, default=120)
    parser.add_argument("--images", type=int, default=8, help="of each identity")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    quiet_libraries()
    samples = some(read_reid(options.data).train, options.identities, options.images)
    found = {str(path): scale_of(path, samples) for path in options.weights}
    conclude({"images": len(samples), "torch": torch.__version__, "weights": found}, options.out)


if __name__ == "__main__":
    main()
