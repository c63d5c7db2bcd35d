"""Retrieval metrics at the scale of Market-1501 or MSMT17 against their matrix products alone.

Command: .venv/bin/python benchmarks/evaluation.py --scale msmt17

Random features of 512 values, seeded, with the numbers of images, identities and cameras of the
data set; ``--share`` takes a part of them. ``total_s`` is the whole of ``evaluate_retrieval``;
``distance_s`` the matrix products of queries and gallery alone, in the same blocks into one reused
buffer; each the least of ``--runs`` runs taken in turns, whose ratio is ``total_over_distance``.
``extra_mb`` is the peak of the process's memory during the first total, above what it held with the
features loaded; with ``--device cuda``, of torch's memory there. ``roc_s`` and ``rerank_s``
(``--rerank``; k-reciprocal, its own distances included) are further measures, with their own peaks
above the features. The last line is one JSON object.
"""

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from outcome import conclude
from steps import wait

from dcsnas.evaluation.pairs import Embeddings
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.evaluation.reranking import KReciprocal, Reranked
from dcsnas.evaluation.roc import verify
from dcsnas.latency.machine import cpu_name

DIM, CHUNK = 512, 256
T = TypeVar("T")


class Scale(NamedTuple):
    """Numbers of a data set's test part; distractors are of the gallery's images."""

    queries: int
    gallery: int
    identities: int
    cameras: int
    distractors: int

    def reduced(self, share: float) -> "Scale":
        """Return a scale with ``share`` of the images, and of the identities."""
        counts = {name: round(share * n) for name, n in self._asdict().items() if name != "cameras"}
        return self._replace(**counts)


SCALES = {
    "market": Scale(3368, 15913, 750, 6, 2798),
    "msmt17": Scale(11659, 82161, 3060, 15, 0),
}


def random_images(size: int, scale: Scale, distractors: int, seed: int) -> Embeddings:
    """Return random features and labels; the last ``distractors`` images have identity 0."""
    generator = torch.Generator().manual_seed(seed)
    identities = torch.randint(1, scale.identities + 1, (size,), generator=generator)
    identities[size - distractors :] = 0
    cameras = torch.randint(scale.cameras, (size,), generator=generator)
    return Embeddings(torch.randn(size, DIM, generator=generator), identities, cameras)


def products(query: Embeddings, gallery: Embeddings, device: str) -> None:
    """Multiply all queries with all gallery images, block by block, and nothing else."""
    features = gallery.features.to(device)
    buffer = torch.empty(CHUNK, len(features), device=device)
    for part in query.features.split(CHUNK):
        torch.mm(part.to(device), features.T, out=buffer[: len(part)])
    wait()


def memory_mb(field: str) -> float:
    """Return VmRSS (now) or VmHWM (the peak) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """Return what ``function`` gives, and its seconds."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def with_peak(function: Callable[[], T], device: str) -> tuple[T, float, float]:
    """Return what ``function`` gives, its seconds, and its peak of memory above the present."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        result, seconds = timed(function)
        return result, seconds, torch.cuda.max_memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = memory_mb("VmRSS")
    result, seconds = timed(function)
    return result, seconds, memory_mb("VmHWM") - before


def measure(scale: Scale, device: str, *, runs: int, rerank: bool) -> dict:
    """Return times, memory and mAP."""
    query = random_images(scale.queries, scale, 0, seed=0)
    gallery = random_images(scale.gallery, scale, scale.distractors, seed=1)
    few = query.features[:64].to(device)
    torch.mm(few, few.T)  # starts torch's threads, or the GPU's library
    how: Any = {"chunk": CHUNK, "device": device}
    result, total, extra = with_peak(lambda: evaluate_retrieval(query, gallery, **how), device)
    totals, distances = [total], [timed(lambda: products(query, gallery, device))[1]]
    for _ in range(runs - 1):
        totals.append(timed(lambda: evaluate_retrieval(query, gallery, **how))[1])
        distances.append(timed(lambda: products(query, gallery, device))[1])
    verification, roc_s, roc_mb = with_peak(lambda: verify(query, gallery, device=device), device)
    found = {
        "total_s": min(totals),
        "distance_s": min(distances),
        "total_over_distance": min(totals) / min(distances),
        "extra_mb": extra,
        "map": result.map,
        "minp": result.minp,
        "roc_s": roc_s,
        "roc_extra_mb": roc_mb,
        "tpr": {point.fpr: point.tpr for point in verification.points},
        "all_total_s": totals,
        "all_distance_s": distances,
    }
    if rerank:
        reranked, seconds, extra = with_peak(
            lambda: evaluate_retrieval(
                query, gallery, scorer=Reranked(query, gallery, KReciprocal(), **how)
            ),
            device,
        )
        found |= {"rerank_s": seconds, "rerank_extra_mb": extra, "rerank_map": reranked.map}
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=sorted(SCALES), default="market")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking too")
    parser.add_argument("--out", type=Path, help="also write the result here")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--share", type=float, default=1.0, help="part of the images")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale].reduced(arguments.share)
    conditions = {"scale": arguments.scale, **scale._asdict(), "dim": DIM, "chunk": CHUNK}
    conditions |= {"threads": torch.get_num_threads(), "cpu": cpu_name()}
    conditions |= {"torch": torch.__version__, "device": arguments.device}
    if arguments.device == "cuda":
        conditions["gpu"] = torch.cuda.get_device_name()
    found = measure(scale, arguments.device, runs=arguments.runs, rerank=arguments.rerank)
    result = {**found, **conditions}
    conclude(result, arguments.out)


if __name__ == "__main__":
    main()
