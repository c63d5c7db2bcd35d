"""Every backend computes what the torch module computes, whatever it makes of it."""

import copy
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.latency.backends.backend import (
    Backend,
    Workload,
    backend_named,
    is_out_of_memory,
    prepare_module,
    prepare_operator,
    register_backend,
)
from dcsnas.latency.backends.onnx_runtime import to_onnx
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.timing import measuring
from dcsnas.nn.build import build, build_layer, layer_input
from dcsnas.spaces.network import Operator
from dcsnas.spaces.sampling import sample_choice
from dcsnas.spaces.space import space_operators
from latency_fakes import CONDITIONS, micro_space

SPACES = [
    micro_space(),
    micro_space(
        head={"op": "pool_head", "width": 8, "expansion": 2},
        attention={"kind": "sa", "affinity": "softmax", "scale": "none"},
    ),
    micro_space(attention={"kind": "dcs", "scale": "sqrt"}, shortcut="equal"),
]
BY_FORM = {
    operator.layer.form: operator
    for space in SPACES
    for operator in space_operators(space, space.size).values()
}
BACKENDS = [
    "eager",
    "channels_last",
    "onnxruntime",
    *(pytest.param(backend, marks=pytest.mark.gpu) for backend in ("cuda", "cuda-graph")),
]


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep GPUs from rounding what convolutions multiply to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def on(name: str, **changes: object) -> Conditions:
    """Return conditions to run a backend in; skips the test where ONNX Runtime is missing."""
    if name == "onnxruntime":
        pytest.importorskip("onnxruntime")
    backend = backend_named(name)
    needed = {
        "backend": name, "device": backend.device, "memory_format": backend.memory_format,
    }  # fmt: skip
    return CONDITIONS.model_copy(update=needed | changes)


def lively(module: nn.Module) -> nn.Module:
    """Give ``module`` weights and statistics that leave no path at zero."""
    generator = torch.Generator().manual_seed(1)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for tensor in (child.weight, child.bias, child.running_mean, child.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return module


def reference(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(module).eval()(images)


def near(first: Tensor, second: Tensor, conditions: Conditions) -> bool:
    """Return whether float32 results are the CPU's; a GPU sums in another order."""
    tolerance = 1e-5 if conditions.device == "cpu" else 1e-4
    return torch.allclose(first, second, rtol=tolerance, atol=tolerance)


def output_of(workload: Workload, conditions: Conditions) -> Tensor:
    with measuring(conditions):
        workload.run()
        output = workload.run()
    assert isinstance(output, Tensor)
    return output.cpu()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operator", BY_FORM.values(), ids=BY_FORM.keys())
def test_operators_of_every_kind_compute_what_their_modules_do(operator: Operator, backend):
    conditions = on(backend, batch=2)
    module = lively(build_layer(operator.layer))
    images = layer_input(operator.layer, operator.size, 2, torch.Generator().manual_seed(2))
    expected = reference(module, images)
    workload = prepare_module(module, images, conditions)
    assert workload.num_bytes >= 4 * (images.numel() + sum(p.numel() for p in module.parameters()))
    assert near(output_of(workload, conditions), expected, conditions)


@pytest.mark.parametrize("operator", BY_FORM.values(), ids=BY_FORM.keys())
def test_operators_of_every_kind_are_one_graph_to_the_compiler(operator: Operator):
    module = lively(build_layer(operator.layer)).eval()
    images = layer_input(operator.layer, operator.size, 1, torch.Generator().manual_seed(2))
    torch._dynamo.reset()
    traced = torch.compile(module, backend="eager", dynamic=False, fullgraph=True)
    with torch.no_grad():
        assert torch.equal(traced(images), module(images))


@pytest.mark.parametrize("backend", BACKENDS)
def test_whole_networks_compute_what_their_modules_do(backend):
    conditions = on(backend)
    space = SPACES[0]
    network = lively(build(space.architecture(sample_choice(space, random.Random(0)))))
    images = torch.randn(1, 3, *space.size)
    expected = reference(network, images)
    workload = prepare_module(network, images, conditions)
    assert near(output_of(workload, conditions), expected, conditions)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operator_is_prepared_with_the_same_weights_and_input_every_time(backend):
    conditions = on(backend, batch=3)
    operator = BY_FORM["block 3x3 s2 hard_swish"]
    first = output_of(prepare_operator(operator, conditions), conditions).clone()
    torch.manual_seed(7)
    second = output_of(prepare_operator(operator, conditions), conditions)
    assert torch.allclose(first, second, rtol=1e-5, atol=1e-5)
    assert first.shape[0] == 3
    assert first.std() > 0


def test_channels_last_reaches_weights_and_images():
    seen = []
    module = nn.Conv2d(4, 8, 3)
    module.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    prepare_module(module, torch.randn(1, 4, 8, 8), on("channels_last")).run()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)


def failing_session(message: str) -> Callable[..., None]:
    def run(self: object, binding: object) -> None:
        raise ValueError(message)  # ONNX Runtime's own errors derive from Exception alone as well

    return run


def test_onnxruntime_out_of_memory_is_told_from_its_other_errors(monkeypatch):
    conditions = on("onnxruntime")
    onnxruntime = pytest.importorskip("onnxruntime")
    workload = prepare_module(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), conditions)
    # what 1.31 says where a buffer of one petabyte is wanted
    refused = "bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 1125899906"
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run_with_iobinding", failing_session(refused)
    )
    with pytest.raises(MemoryError, match="requested buffer") as caught:
        workload.run()
    assert is_out_of_memory(caught.value)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", failing_session("bug"))
    with pytest.raises(ValueError, match="bug"):
        workload.run()


def test_onnxruntime_gets_the_threads_of_the_conditions(monkeypatch):
    conditions = on("onnxruntime", threads=2)
    onnxruntime = pytest.importorskip("onnxruntime")
    seen, real = [], onnxruntime.InferenceSession

    def watched(model, options, providers):
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads, providers))
        return real(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    prepare_module(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), conditions).run()
    assert seen == [(2, 1, ["CPUExecutionProvider"])]


def test_exporting_leaves_the_module_as_it_was():
    onnx = pytest.importorskip("onnx")
    module = lively(build_layer(BY_FORM["block 3x3 s2 hard_swish"].layer)).train()
    before = copy.deepcopy(module.state_dict())
    model = onnx.load_from_string(to_onnx(module, torch.randn(2, 4, 8, 4)))
    onnx.checker.check_model(model)
    (image,), (feature,) = model.graph.input, model.graph.output
    assert (image.name, feature.name) == ("images", "features")
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [2, 4, 8, 4]
    assert {node.op_type for node in model.graph.node} <= {"Conv", "HardSwish"}  # norms are folded
    assert module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_backend_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UserError) as caught:
        backend_named("tensorrt")
    message = str(caught.value)
    assert message.startswith("backend 'tensorrt' is none of eager, channels_last, compile, ")
    assert message.endswith("name the module that does: dcsnas --plugin MODULE")


def test_two_backends_of_one_name_are_refused_and_the_first_stays():
    eager = backend_named("eager")
    with pytest.raises(UserError, match="backend eager: there is another of that name"):
        register_backend(Backend("eager", eager.prepare))
    register_backend(eager)
    assert backend_named("eager") is eager
