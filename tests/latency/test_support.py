"""What the backends need of a machine, each missing once."""

import sys
from pathlib import Path

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.backends import backend_named
from dcsnas.latency.machine import current_conditions


def refusal(backend: str, dtype: str = "float32") -> str:
    with pytest.raises(UserError) as caught:
        backend_named(backend).refuse_unsupported(dtype)
    return str(caught.value)


@pytest.mark.parametrize("backend", ["cuda", "cuda-graph"])
def test_asking_for_a_gpu_without_one_says_what_to_do(monkeypatch, backend):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(backend) == (
        f"backend {backend}: torch {torch.__version__} sees no CUDA device here; use backend "
        "eager, or check that nvidia-smi lists a GPU and that torch is a CUDA build"
    )


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_comes_with_the_command_that_installs_it(monkeypatch, package):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, torch)  # there, whether installed or not
    monkeypatch.setitem(sys.modules, package, None)  # not there
    message = refusal("onnxruntime")
    assert message == (
        f"backend onnxruntime: the package {package} is not installed; "
        "pip install -c constraints.txt -e '.[export]'"
    )
    with pytest.raises(UserError, match=f"the package {package} is not installed"):
        current_conditions((64, 32), 1, backend="onnxruntime")


def test_the_command_names_an_extra_that_holds_the_packages():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'export = ["onnx", "onnxruntime", "onnxscript"]' in project


def test_a_missing_compiler_is_named_and_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "some-g++")
    message = refusal("compile")
    assert message.startswith("backend compile: no C++ compiler 'some-g++'; install one")
    assert "environment variable CXX" in message
    monkeypatch.delenv("CXX")
    assert "no C++ compiler '" in refusal("compile")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere headers come with Python")
def test_missing_headers_of_python_are_named(monkeypatch, tmp_path):
    compiler = tmp_path / "g++"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert f"backend compile: {tmp_path} has no Python.h" in refusal("compile")
    (tmp_path / "Python.h").touch()
    backend_named("compile").refuse_unsupported("float32")


@pytest.fixture
def without_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what oneDNN says about this CPU."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)


@pytest.mark.usefixtures("without_half")
def test_a_type_that_the_cpu_would_emulate_is_refused_and_the_others_listed():
    assert refusal("eager", "float16") == (
        "dtype float16: backend eager does not run it on this machine, only float32, bfloat16; "
        "use one of these"
    )
    backend_named("eager").refuse_unsupported("bfloat16")
    backend_named("channels_last").refuse_unsupported("bfloat16")


def test_a_torch_without_onednn_runs_float32_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert "only float32;" in refusal("eager", "bfloat16")
    backend_named("eager").refuse_unsupported("float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_onnxruntime_runs_float32_alone(dtype):
    pytest.importorskip("onnxruntime")
    assert f"dtype {dtype}: backend onnxruntime does not run it" in refusal("onnxruntime", dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_old_gpu_runs_float16_and_emulates_bfloat16(monkeypatch, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    if dtype == "bfloat16":
        assert "only float32, float16" in refusal("cuda", dtype)
    else:
        backend_named("cuda").refuse_unsupported(dtype)
