"""What a supernet costs: one weight step against the same step of its largest plain network.

Command: .venv/bin/python benchmarks/supernet_step.py

A step is forward, backward and SGD on 8 images of 256x128 on one thread (on a GPU where there is
one: 64 images; ``--batch`` says otherwise), with the draw of the choices where there are any. Both
networks of a row are timed in turns in one run. ``saved`` is what autograd keeps for backward, each
storage once, without parameters and buffers. The masks of the attention are not trained in a weight
step, so the supernet may keep less than the plain network, which trains them. The last line is one
JSON object.

``stock_nni`` is the fbnetv2 space out of NNI's own parts: a LayerChoice over expansions of blocks
of mutable convolutions and BatchNorms, under NNI's GumbelDARTS. It has no shortcuts and no
attention, which NNI's parts cannot express, so it has less to do. It is compared on the CPU alone.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import nni
import torch
from nni.mutable import MutableExpression
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableBatchNorm2d, MutableConv2d
from nni.nas.strategy import GumbelDARTS
from outcome import conclude
from steps import PRECISIONS, Step, autocast, milliseconds
from torch import Tensor, nn

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.search import AddConfig, ArchitectureConfig
from dcsnas.latency.allocator import reexec_with_allocator
from dcsnas.latency.expectation import ExpectedCost
from dcsnas.latency.machine import cpu_name
from dcsnas.nn.build import build
from dcsnas.search.cost_terms import CostObjective
from dcsnas.search.fbnetv2 import FBNetV2
from dcsnas.search.loop import frozen
from dcsnas.search.supernet import Supernet
from dcsnas.spaces.layers import Block
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.space_file import SpaceFile

SPACES = ("fbnetv2", "fbnetv2_large", "fbnetv2_xlarge")


class StockNetwork(ModelSpace):
    """The blocks of a space out of NNI's mutable modules; the stem and a pooled feature around."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        width = _stem_width(space)
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        choices = {d.label: nni.choice(d.label, list(d.options)) for d in space.decisions}
        blocks = []
        for index, slot in enumerate(s for s in space.slots if s.layer is Block):
            arguments = {name: choices[d.label] for name, d in slot.decided.items()}
            arguments = {**slot.constant, **arguments}
            expansion = slot.decided.get("expansion")
            options = expansion.options if expansion else [slot.constant["expansion"]]
            candidates = [_stock_block(arguments, float(option)) for option in options]
            if len(candidates) == 1:
                blocks.append(candidates[0])
            else:
                blocks.append(LayerChoice(candidates, label=f"block{index}"))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features."""
        return self.blocks(self.stem(images)).mean((2, 3))


def _stem_width(space: SearchSpace) -> int:
    assert isinstance(space.file, SpaceFile), "the spaces here are of rows"
    return space.file.stem.width


def _stock_block(arguments: dict[str, Any], expansion: float) -> nn.Module:
    c_in, c_out, stride = arguments["c_in"], arguments["c_out"], arguments["stride"]
    mid = c_in
    layers: list[nn.Module] = []
    if expansion != 1:
        scaled = c_in * expansion  # an expression where c_in is a choice
        mid = MutableExpression.to_int(scaled)
        layers += [MutableConv2d(c_in, mid, 1), MutableBatchNorm2d(mid), nn.Hardswish()]
    depthwise = MutableConv2d(mid, mid, 3, stride=stride, padding=1, groups=mid)
    layers += [depthwise, MutableBatchNorm2d(mid), nn.Hardswish()]
    return nn.Sequential(*layers, MutableConv2d(mid, c_out, 1), MutableBatchNorm2d(c_out))


def plain_step(network: nn.Module, images: Tensor, precision: str = "32-true") -> Step:
    """Return a training step of a network without choices."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(images.device.type, precision):
            loss = network(images).square().mean()
        loss.backward()
        optimizer.step()

    return step


def supernet_step(space: SearchSpace, images: Tensor, precision: str = "32-true") -> Step:
    """Return a weight step of our supernet, as the search loop takes it."""
    latency = ExpectedCost(space, space.size, lambda operator: operator.cost.macs)
    objective = CostObjective(AddConfig(form="add"), latency)
    strategy = FBNetV2(config=ArchitectureConfig(), objective=objective)
    supernet: Any = Supernet(space)
    strategy.mutate_model(supernet)
    module: Any = strategy.configure_oneshot_module(supernet).to(images.device)
    optimizer = torch.optim.SGD(module.trained_in_weight_phase, 0.01, momentum=0.9)

    def step() -> None:
        with frozen(module.trained_in_architecture_phase):
            module.resample()
            optimizer.zero_grad()
            with autocast(images.device.type, precision):
                loss = supernet(images).square().mean()
            loss.backward()
            optimizer.step()

    return step


def stock_step(space: SearchSpace, images: Tensor) -> Step:
    """Return a weight step of the stock supernet; NNI resamples within its modules."""
    network: Any = StockNetwork(space)
    strategy = GumbelDARTS()
    strategy.mutate_model(network)
    module: Any = strategy.configure_oneshot_module(network)
    chosen = {id(p) for p in module.arch_parameters()}
    weights = [p for p in network.parameters() if id(p) not in chosen]
    optimizer = torch.optim.SGD(weights, 0.01, momentum=0.9)

    def step() -> None:
        module.resample()
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()

    return step


def stock_largest(space: SearchSpace) -> nn.Module:
    """Return the largest network of the stock space, out of plain modules."""
    layers: list[nn.Module] = [nn.Conv2d(3, _stem_width(space), 3, 2, 1, bias=False)]
    for layer in space.architecture(largest_choice(space)).layers:
        if isinstance(layer, Block):
            mid = layer.mid if layer.expands else layer.c_in
            if layer.expands:
                layers += [nn.Conv2d(layer.c_in, mid, 1), nn.BatchNorm2d(mid), nn.Hardswish()]
            depthwise = nn.Conv2d(mid, mid, 3, layer.stride, 1, groups=mid)
            layers += [depthwise, nn.BatchNorm2d(mid), nn.Hardswish()]
            layers += [nn.Conv2d(mid, layer.c_out, 1), nn.BatchNorm2d(layer.c_out)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def saved_bytes(step: Step, owners: nn.Module | None = None) -> int:
    """Return the bytes that autograd keeps during ``step``, each storage counted once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not tensor.is_leaf:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values())


def compare(step: Step, reference: Step, rounds: int) -> dict[str, float]:
    """Return medians of both in milliseconds, the median ratio of neighbours, and saved bytes."""
    times = []
    for _ in range(rounds + 1):
        times.append((milliseconds(reference), milliseconds(step)))
    plain, own = zip(*times[1:], strict=True)
    saved = saved_bytes(reference), saved_bytes(step)
    return {
        "plain_ms": statistics.median(plain),
        "step_ms": statistics.median(own),
        "step_ratio": statistics.median(b / a for a, b in times[1:]),
        "plain_saved_mb": saved[0] / 1e6,
        "saved_mb": saved[1] / 1e6,
        "saved_ratio": saved[1] / saved[0],
    }


def measure(
    name: str, device: str, batch: int, rounds: int, precision: str, *, stock: bool = False
) -> dict:
    """Return the comparison for one space, ours or of NNI's parts."""
    space = SearchSpace.named(name)
    images = torch.randn(batch, 3, *space.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)  # as training's
    if stock:
        own, network = stock_step(space, images), stock_largest(space)
    else:
        own, network = (
            supernet_step(space, images, precision),
            build(space.architecture(largest_choice(space))),
        )
    return compare(own, plain_step(network.to(device), images, precision), rounds)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fbnetv2 and stock, 2 images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-stock", action="store_true", help="ours alone")
    parser.add_argument("--batch", type=int, help="images in a step")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0])
    parser.add_argument("--out", type=Path, help="also write the result here")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = options.batch or (2 if options.quick else 64 if device == "cuda" else 8)
    rounds = 3 if options.quick else options.rounds
    result: dict[str, Any] = {}
    for name in SPACES[:1] if options.quick else SPACES:
        result[name] = measure(name, device, batch, rounds, options.precision)
        print(name, json.dumps(result[name]), flush=True)
    if device == "cpu" and not options.no_stock:
        stock = measure(SPACES[0], device, batch, min(rounds, 5), PRECISIONS[0], stock=True)
        stock["ours_against_stock"] = stock["step_ms"] / result[SPACES[0]]["step_ms"]
        result["stock_nni"] = stock
    result["conditions"] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "torch": torch.__version__,
        "nni": nni.__version__,
        "threads": 1,
        "batch": batch,
        "precision": options.precision,
        "memory_format": "channels_last",
        "rounds": rounds,
        "seed": 0,
    }
    conclude(result, options.out)


if __name__ == "__main__":
    import sys

    reexec_with_allocator(sys.orig_argv)
    main()
