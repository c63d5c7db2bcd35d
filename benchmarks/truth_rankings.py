"""What searches and zero-cost scores say of the networks of the table of truth.

Command: .venv/bin/python benchmarks/truth_rankings.py --data lpc_reid.tar.gz --out DIR

For each target and seed one search by the short recipe (``short_runs.py``): the mAP that its
supernet gives each of the target's networks (``supernet``) and the logarithm of their probability
(``probability``). ``--name NAME --set KEY=VALUE`` searches by another recipe, and its rankings are
``NAME.supernet`` and ``NAME.probability``. ``--zero-cost`` searches nothing and adds ``synflow``
and ``jacobian_covariance`` of fresh networks with each seed. What is in ``rankings.csv`` of
``--results`` stays. About three minutes of one core a search. The zero-cost scores are after
Zero-Cost Proxies (Abdelfattah et al., 2021). The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

import torch
from short_runs import Bench
from torch import Tensor, nn
from truth import RESULTS, Drawn, append_row, bench_of, kept_table, networks, read_rows

from dcsnas.config.environment import quiet_libraries
from dcsnas.nn.build import build
from dcsnas.search.derive import log10_probability, read_probabilities
from dcsnas.search.derived_weights import score_derived

FIELDS = ("target_ms", "number", "ranking", "seed", "value")
IMAGES = 16
"""Random images of a zero-cost score."""


def of_search(bench: Bench, drawn: list[Drawn], seed: int, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one search; ``drawn`` are the networks of its target."""
    target = drawn[0].target_ms
    bench.searched(target, seed)
    run = bench.search_folder(target, seed)
    probabilities = read_probabilities(run)[-1]
    for one, score in zip(
        drawn, score_derived(run, [one.architecture for one in drawn]), strict=True
    ):
        likely = log10_probability(bench.space, probabilities, one.architecture.provenance.choice)
        yield row_of(one, f"{prefix}supernet", seed, score["map"])
        yield row_of(one, f"{prefix}probability", seed, likely)


def of_fresh(one: Drawn, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the zero-cost scores of a network with weights drawn from ``seed``."""
    size = one.architecture.input
    torch.manual_seed(seed)
    yield row_of(one, "synflow", seed, synflow(build(one.architecture), size))
    torch.manual_seed(seed)
    images = torch.randn(IMAGES, 3, *size)
    value = jacobian_covariance(build(one.architecture), images)
    yield row_of(one, "jacobian_covariance", seed, value)


def synflow(network: nn.Module, size: tuple[int, int]) -> float:
    """Return the logarithm of SynFlow: the sum of weight times gradient over all parameters.

    Weights are their absolute values, the image of ``size`` is of ones, normalisation passes on
    what comes in (evaluation with the statistics of a fresh network), all in float64: Tanaka et
    al., Pruning neural networks without any data, 2020, equation 3. ``network`` is changed.
    """
    network.eval().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network(torch.ones(1, 3, *size, dtype=torch.float64)).sum().backward()
    products = [(p * p.grad).sum() for p in network.parameters() if p.grad is not None]
    return float(torch.stack(products).sum().abs().log())


def jacobian_covariance(network: nn.Module, images: Tensor) -> float:
    """Return how differently a fresh network answers to changes of each of ``images`` [B, 3, H, W].

    From the eigenvalues v of the correlations between the images' gradients of the summed output:
    -sum(log(v + k) + 1 / (v + k)), k = 1e-5: Mellor et al., Neural architecture search without
    training, 2020, first version, as in Zero-Cost Proxies.
    """
    network.train().double()
    given = images.double().requires_grad_()
    network(given).sum().backward()
    assert given.grad is not None
    eigenvalues = torch.linalg.eigvalsh(torch.corrcoef(given.grad.flatten(1))) + 1e-5
    return float(-(eigenvalues.log() + 1 / eigenvalues).sum())


def row_of(one: Drawn, ranking: str, seed: int, value: float) -> dict[str, Any]:
    """Return a line of ``rankings.csv``."""
    target, number = one.key
    row = {"target_ms": target, "number": number, "ranking": ranking, "seed": seed}
    return {**row, "value": f"{value:.6g}"}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, help="folder of the searches")
    parser.add_argument("--networks", type=int, default=20, help="at each of three latencies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", help="of the recipe, unless it is the shipped one")
    parser.add_argument("--set", nargs="+", default=[], help="changes of the search's recipe")
    parser.add_argument("--zero-cost", action="store_true", help="no searches")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    table, path = kept_table(), options.results / "rankings.csv"
    drawn = list(networks(table, options.networks))
    done = {(r["target_ms"], r["ranking"], r["seed"]) for r in read_rows(path)}
    new = 0
    for row in rows(options, drawn, done):
        append_row(path, FIELDS, row)
        new += 1
    print(json.dumps({"rows": new, "rankings": sorted({key[1] for key in done})}))


def rows(
    options: argparse.Namespace, drawn: list[Drawn], done: set[tuple[str, str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows that ``options`` ask for and that are not ``done``."""
    prefix = f"{options.name}." if options.name else ""
    ranking = "synflow" if options.zero_cost else f"{prefix}supernet"
    named = (options.out, options.data, options.name, options.set)
    bench = None if options.zero_cost else bench_of(*named)
    for target in dict.fromkeys(one.target_ms for one in drawn):
        here = [one for one in drawn if one.target_ms == target]
        for seed in options.seeds:
            if (f"{target:.3f}", ranking, str(seed)) in done:
                continue
            if bench:
                yield from list(of_search(bench, here, seed, prefix))
            else:
                yield from [row for one in here for row in of_fresh(one, seed)]


if __name__ == "__main__":
    main()
