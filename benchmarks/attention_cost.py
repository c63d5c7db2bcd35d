"""What DCS-Attention and its loss cost in a training step, against plain attention and none.

Command: .venv/bin/python benchmarks/attention_cost.py --out benchmarks/results/attention_cost.json

A step is that of ``dcsnas retrain`` on one batch of 64 images (256x128 unless ``--input`` says so)
and 751 identities: forward, loss, backward, SGD, on the largest network of ``fbnetv2``. ``none``,
``sa`` and ``dcs`` train on cross-entropy and triplet loss; ``dcs_ibb`` adds the information bound,
its gradient and the sums for the next epoch. Attention once as ``dot`` and once as ``softmax``. All
are timed in turns in one run, in ``--precision``; a ratio is the median over rounds of two steps of
the same round. The last line is one JSON object.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from outcome import conclude
from steps import PRECISIONS, Step, autocast, milliseconds
from torch import Tensor

from dcsnas.cli.options import parse_size
from dcsnas.config.stages import LossConfig
from dcsnas.latency.allocator import reexec_with_allocator
from dcsnas.latency.machine import cpu_name
from dcsnas.losses.metric import batch_hard_triplet
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.spaces.layers import Size
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.space_file import AttentionSettings
from dcsnas.tasks.reid import ReidObjective

IDENTITIES, IMAGES_EACH, CLASSES = 16, 4, 751
AFFINITIES = ("dot", "softmax")
Loss = Callable[[TaskNetwork], Tensor]


class Bench:
    """One batch, and training steps on it."""

    def __init__(
        self,
        space: SearchSpace,
        size: Size,
        device: torch.device,
        affinities: Sequence[str],
        precision: str,
    ) -> None:
        self.space = space
        self.precision = precision
        self.affinities = affinities
        self.device = device
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(IDENTITIES * IMAGES_EACH, 3, *size, generator=generator)
        self.images = images.to(device, memory_format=torch.channels_last)
        classes = torch.randperm(CLASSES, generator=generator)[:IDENTITIES]
        self.labels = classes.repeat_interleave(IMAGES_EACH).to(device)

    def network(self, kind: str, affinity: str) -> TaskNetwork:
        """Return the largest network with attention of ``kind``; raises ValueError for no such."""
        settings = self.space.file.attention
        assert isinstance(settings, AttentionSettings), "the shipped spaces of rows have one"
        changed = settings.model_copy(update={"kind": kind, "affinity": affinity})
        space = SearchSpace(self.space.file.model_copy(update={"attention": changed}))
        backbone = build(space.architecture(largest_choice(space)))
        return TaskNetwork(backbone, BNNeck(backbone.feature_dim, CLASSES)).to(self.device)

    def step(self, network: TaskNetwork, loss: Loss) -> Step:
        """Return a training step."""
        optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad()
            with autocast(self.device.type, self.precision):
                value = loss(network)
            value.backward()
            optimizer.step()

        return step

    def plain(self, network: TaskNetwork) -> Tensor:
        """Return cross-entropy and triplet loss."""
        output = network(self.images)
        cross_entropy = F.cross_entropy(output.logits, self.labels, label_smoothing=0.1)
        return cross_entropy + batch_hard_triplet(output.features, self.labels, margin=0.3)

    def bounded(self, feature_dim: int) -> Loss:
        """Return the loss with the information bound in force, and what it observes."""
        objective = ReidObjective(LossConfig(eta_warmup=0), CLASSES, feature_dim).to(self.device)
        everyone = torch.arange(CLASSES, device=self.device)
        for _ in range(2):  # the bound has centroids after one epoch, and Q after two
            shape = (CLASSES, objective.bound.input_centroids.shape[1])
            features = torch.randn(CLASSES, feature_dim, device=self.device)
            objective.bound.observe(features, torch.randn(shape, device=self.device), everyone)
            objective.bound.end_epoch()
        assert objective.bound.ready

        def loss(network: TaskNetwork) -> Tensor:
            output = network(self.images)
            inputs = objective.inputs(self.images)
            terms = objective(output, inputs, self.labels, progress=1.0)
            objective.observe(output, inputs, self.labels)
            return terms["loss"]

        return loss

    def steps(self) -> dict[str, Step]:
        """Return every step by name."""
        found = {"none": self.step(self.network("none", "dot"), self.plain)}
        for affinity in self.affinities:
            for kind in ("sa", "dcs"):
                network = self.network(kind, affinity)
                found[f"{kind}_{affinity}"] = self.step(network, self.plain)
            network = self.network("dcs", affinity)
            loss = self.bounded(network.backbone.feature_dim)  # type: ignore[arg-type]
            found[f"dcs_ibb_{affinity}"] = self.step(network, loss)
        return found


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """Return medians in milliseconds, and ratios within rounds."""
    steps = bench.steps()
    for step in steps.values():
        step()  # the first allocates
    times = [{name: milliseconds(step) for name, step in steps.items()} for _ in range(rounds)]

    def ratio(first: str, second: str) -> float:
        return statistics.median(row[first] / row[second] for row in times)

    result: dict[str, Any] = {
        "step_ms": {name: statistics.median(row[name] for row in times) for name in steps},
        "step_sd_ms": {name: statistics.stdev(row[name] for row in times) for name in steps},
    }
    for affinity in bench.affinities:
        sa, dcs, ibb = (f"{kind}_{affinity}" for kind in ("sa", "dcs", "dcs_ibb"))
        result[affinity] = {
            "dcs_ibb_over_sa": ratio(ibb, sa),
            "dcs_over_sa": ratio(dcs, sa),
            "sa_over_none": ratio(sa, "none"),
            "dcs_ibb_over_none": ratio(ibb, "none"),
        }
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="fbnetv2")
    parser.add_argument("--input", type=parse_size, help="as 128x64; default: the space's")
    parser.add_argument("--affinities", nargs="+", choices=AFFINITIES, default=AFFINITIES)
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    space = SearchSpace.named(options.space)
    size = options.input or space.size
    bench = Bench(space, size, device, options.affinities, options.precision)
    result = measure(bench, options.rounds)
    result["conditions"] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else cpu_name(),
        "torch": torch.__version__,
        "space": options.space,
        "input": size,
        "batch": IDENTITIES * IMAGES_EACH,
        "classes": CLASSES,
        "threads": options.threads,
        "precision": options.precision,
        "memory_format": "channels_last",
        "rounds": options.rounds,
        "seed": 0,
    }
    conclude(result, options.out)


if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)
    main()
