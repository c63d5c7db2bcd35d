"""Many modules compiled by Inductor side by side, none of which falls back to eager."""

from collections.abc import Iterator
from typing import cast

import pytest
import torch
import torch._dynamo as dynamo
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported
from torch._dynamo.utils import counters

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.backend import backend_named, prepare_module
from dcsnas.latency.timing import measuring
from latency_fakes import CONDITIONS

COMPILE = CONDITIONS.model_copy(update={"backend": "compile"})
IMAGES = torch.linspace(-1, 1, 12).reshape(1, 3, 2, 2)


class Scaled(nn.Module):
    """What dynamo would have to compile anew for every ``factor``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.fixture
def one_graph_per_code() -> Iterator[None]:
    """Let dynamo compile each code object once only, and count from zero."""
    try:
        backend_named("compile").refuse_unsupported("float32")
    except UserError as error:
        pytest.skip(str(error))
    dynamo.reset()
    counters.clear()
    with dynamo.config.patch(recompile_limit=1):
        yield
    dynamo.reset()


@pytest.mark.usefixtures("one_graph_per_code")
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own use
def test_every_module_is_compiled_beyond_dynamos_limit_per_code_object():
    modules = [Scaled(factor) for factor in (2.0, 3.0, 4.0)]
    with measuring(COMPILE):
        workloads = [prepare_module(module, IMAGES, COMPILE) for module in modules]
        for module, workload in zip(modules, workloads, strict=True):
            assert torch.equal(cast(Tensor, workload.run()), module.factor * IMAGES)
    assert counters["stats"]["unique_graphs"] == 3
    assert counters["inductor"], "the modules were run, but not by Inductor"


@pytest.mark.usefixtures("one_graph_per_code")
def test_modules_that_share_their_code_exceed_the_limit():
    def call(module: nn.Module) -> Tensor:
        return torch.compile(lambda x: module(x), backend="eager", fullgraph=True)(IMAGES)

    call(Scaled(2.0))
    with pytest.raises(FailOnRecompileLimitHit):
        call(Scaled(3.0))


@pytest.mark.usefixtures("one_graph_per_code")
def test_a_module_that_would_run_in_parts_is_an_error_and_not_a_slow_workload():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(Unsupported):
        prepare_module(Branching(), IMAGES, COMPILE)
