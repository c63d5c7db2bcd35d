"""What only a GPU can show of the backends: times against clocks of torch's own, and syncs.

Shapes: B images, C channels, H x W positions.
"""

import random
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dcsnas.latency.backends.backend import prepare_module
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import current_conditions
from dcsnas.latency.timing import CudaStopwatch, calibrate_repeats, measuring
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import largest_choice, sample_choice
from dcsnas.spaces.space import SearchSpace

pytestmark = pytest.mark.gpu

SPACE = SearchSpace.named("tiny")
DTYPES = ("float32", "bfloat16")
BACKENDS = ("cuda", "cuda-graph")


def conditions(backend: str, batch: int = 8, dtype: str = "float32") -> Conditions:
    return current_conditions(SPACE.size, batch, backend=backend, dtype=dtype)  # type: ignore[arg-type]


def network(rng: random.Random | None = None) -> nn.Module:
    choice = sample_choice(SPACE, rng) if rng else largest_choice(SPACE)
    return build(SPACE.architecture(choice), torch.Generator().manual_seed(0))


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, *SPACE.size, generator=torch.Generator().manual_seed(1))


def wall_ms(run: Callable[[], object], repeats: int) -> float:
    """Return the time of one run by the host's clock, from idle to idle."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started) / repeats


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_events_agree_with_the_clock_of_the_host(backend, dtype) -> None:
    here, watch = conditions(backend, dtype=dtype), CudaStopwatch()
    with measuring(here):
        run = prepare_module(network(), images(here.batch), here).run
        repeats = calibrate_repeats(watch, run, min_sample_ms=20, warmup_runs=5)
        events = min(watch.sample(run, repeats).ms for _ in range(5))
        host = min(wall_ms(run, repeats) for _ in range(5))
    assert 0 < events < 1.05 * host  # the host's clock sees the last launch and the wait as well
    assert events == pytest.approx(host, rel=0.2)


def test_a_replayed_graph_spares_the_launches_of_a_small_network() -> None:
    times = {}
    for backend in BACKENDS:
        here, watch = conditions(backend, batch=1), CudaStopwatch()
        with measuring(here):
            run = prepare_module(network(), images(1), here).run
            repeats = calibrate_repeats(watch, run, min_sample_ms=20, warmup_runs=5)
            times[backend] = min(watch.sample(run, repeats).ms for _ in range(5))
    assert times["cuda-graph"] < times["cuda"]


def test_a_graph_computes_on_what_lies_in_its_input_when_it_is_replayed() -> None:
    here = conditions("cuda-graph", batch=2)
    module, given = network(), images(2).cuda()
    seen = []
    module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    with measuring(here):
        run = prepare_module(module, given, here).run
        captured = seen[-1]
        first = run().clone()  # type: ignore[attr-defined]
        captured.copy_(captured.flip(0))
        second = run()
        assert torch.allclose(second.flip(0), first, rtol=1e-4, atol=1e-4)  # type: ignore[attr-defined]
    assert len(seen) == 4  # three to warm up and one to capture: a replay calls no Python


@pytest.mark.parametrize("backend", BACKENDS)
def test_reduced_precision_computes_nearly_the_same(backend) -> None:
    found = {}
    for dtype in DTYPES:
        here = conditions(backend, dtype=dtype)
        with measuring(here):
            found[dtype] = prepare_module(network(), images(8), here).run().float().cpu()  # type: ignore[attr-defined]
    error = (found["bfloat16"] - found["float32"]).norm() / found["float32"].norm()
    assert 0 < error < 0.1


def test_a_network_waits_for_the_gpu_nowhere() -> None:
    """A forward that copies to or from the host cannot be captured, and idles the GPU."""
    here = conditions("cuda", batch=2)
    with measuring(here):
        for seed in range(3):
            run = prepare_module(network(random.Random(seed)), images(2), here).run
            run()
            torch.cuda.set_sync_debug_mode("error")
            try:
                run()
            finally:
                torch.cuda.set_sync_debug_mode("default")
