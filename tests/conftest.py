"""Every test starts from the same seeds, runs on one thread, and skips what this machine lacks."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from backbone_fakes import FakeBackbone
from hypothesis import settings

from dcsnas.cli.main import run
from dcsnas.spaces.backbones import BACKBONES, find_backbone
from plan_fakes import write_micro_plan

Fails = Callable[..., str]

torch.set_num_threads(1)
settings.register_profile("dcsnas", deadline=None, derandomize=True)
settings.load_profile("dcsnas")


@pytest.fixture(autouse=True)
def _same_seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is no CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")


@pytest.fixture(autouse=True)
def _this_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is called within a test must not start pytest over."""
    monkeypatch.setattr("dcsnas.latency.allocator.reexec_with_allocator", lambda argv: None)


@pytest.fixture(scope="session")
def micro_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small plan of ``dcsnas profile --plan``, to read and to copy."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("plans") / "micro"
    write_micro_plan(folder)
    return folder


@pytest.fixture
def fake_backbone(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBackbone]:
    """Register a small backbone as ``fake``, whose ``layout`` a test may change."""
    backbone = FakeBackbone()
    monkeypatch.setitem(BACKBONES, backbone.name, lambda: backbone)
    find_backbone.cache_clear()
    yield backbone
    find_backbone.cache_clear()


@pytest.fixture
def fails(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Return a function that runs a command, checks how it fails, and returns the message.

    ``work`` is the folder that it is run in, of the module or package that uses this.
    """

    def command(*arguments: str) -> str:
        before = sorted(work.rglob("*"))
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert "Traceback" not in captured.out + captured.err
        assert sorted(work.rglob("*")) == before, "something was left behind"
        return captured.err

    return command
