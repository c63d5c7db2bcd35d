"""Conditions of a measurement, and which of them differ."""

import pytest
import torch

from dcsnas.latency.allocator import current_allocator
from dcsnas.latency.backends import Backend, backend_named
from dcsnas.latency.conditions import differences
from dcsnas.latency.machine import cpu_name, current_conditions
from latency_fakes import CONDITIONS, SETTINGS


def test_the_current_conditions_describe_this_process():
    here = current_conditions((64, 32), 8, threads=2)
    assert (here.device, here.backend, here.batch, here.input) == ("cpu", "eager", 8, (64, 32))
    assert here.torch == torch.__version__
    assert here.device_name == cpu_name()
    assert here.device_name.endswith(f"{torch.backends.cpu.get_cpu_capability()})")
    assert here.allocator == current_allocator()
    assert here.cuda is None
    assert here.driver is None


def test_conditions_survive_a_round_trip():
    assert type(CONDITIONS).model_validate(CONDITIONS.model_dump(mode="json")) == CONDITIONS


def test_every_differing_field_is_listed_with_both_values():
    other = CONDITIONS.model_copy(update={"threads": 4, "input": (256, 128)})
    assert differences(CONDITIONS, other) == [
        ("threads", 1, 4),
        ("input", (16, 8), (256, 128)),
    ]
    assert differences(CONDITIONS, CONDITIONS) == []


def test_settings_are_compared_alike():
    other = SETTINGS.model_copy(update={"rounds": 9})
    assert differences(SETTINGS, other) == [("rounds", 4, 9)]


@pytest.mark.parametrize("backend", ["eager", "channels_last", "compile"])
def test_device_and_layout_follow_from_the_backend(monkeypatch, backend):
    monkeypatch.setattr(Backend, "refuse_unsupported", lambda *asked: None)
    here = current_conditions((64, 32), 1, backend=backend)
    layout = "channels_last" if backend == "channels_last" else "contiguous"
    assert (here.backend, here.device, here.memory_format) == (backend, "cpu", layout)
    assert here.backend_version is None


def test_the_version_of_a_runtime_beside_torch_is_recorded():
    onnxruntime = pytest.importorskip("onnxruntime")
    here = current_conditions((64, 32), 1, backend="onnxruntime")
    assert (here.device, here.backend_version) == ("cpu", onnxruntime.__version__)


def test_gpu_backends_run_on_the_gpu():
    assert [backend_named(name).device for name in ("cuda", "cuda-graph")] == ["cuda", "cuda"]


def test_whole_networks_and_plain_calls_are_told_apart():
    names = ["eager", "channels_last", "compile", "onnxruntime", "cuda", "cuda-graph"]
    assert [name for name in names if backend_named(name).enters_once] == [
        *("compile", "onnxruntime", "cuda-graph")
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["cuda", "cuda-graph"])
def test_conditions_of_a_gpu_name_it_and_its_software(backend):
    here = current_conditions((64, 32), 1, backend=backend)
    assert (here.device, here.device_name) == ("cuda", torch.cuda.get_device_name())
    assert here.driver
    assert here.cuda is not None
    assert here.cuda.startswith(f"{torch.version.cuda}, cuDNN")
