"""timm beside torchvision: a working one, one that does not load, none; and without timm."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import LIBRARIES, find_backbone
from dcsnas.zoo import torchvision_shim

ROOT = Path(__file__).parents[2]

BROKEN = """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda *args: args[0])
"""
"""What torchvision does once its compiled part has not been loaded."""

WORKING = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def fresh(code: str, folder: Path | None = None) -> str:
    """Return what a fresh interpreter prints, whose modules are ``folder``'s first."""
    path = os.pathsep.join(map(str, [folder, ROOT] if folder else [ROOT]))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout


def test_importing_the_zoo_imports_neither_timm_nor_torch() -> None:
    loaded = set(fresh("import dcsnas.zoo, sys; print(*sys.modules)").split())
    assert "dcsnas.zoo" in loaded
    assert not loaded & {"timm", "torch", "torchvision", "fvcore", "numpy"}


MENDING = """
import dcsnas.torchvision_compat as compat
import torchvision
import torch
print(len(compat._declared))
print(torch.ops.torchvision.nms.default._schema)
"""


@pytest.mark.parametrize(("source", "declared"), [(BROKEN, 1), (WORKING, 0)])
def test_only_what_torchvision_lacks_is_declared(
    tmp_path: Path, source: str, declared: int
) -> None:
    (tmp_path / "torchvision.py").write_text(source)
    first, schema = fresh(MENDING, tmp_path).splitlines()
    assert first == str(declared)
    assert schema == ("torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


WITHOUT = """
import importlib.util, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torchvision":
            raise ModuleNotFoundError(name)

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "torchvision" else find_spec(name)
sys.meta_path.insert(0, Absent())
from dcsnas.zoo.torchvision_shim import import_timm
import torch
timm = import_timm()
assert timm is import_timm()
features = timm.create_model("mobilenetv2_035", num_classes=0)(torch.zeros(2, 3, 32, 32))
print(*features.shape, len(timm.list_models()) > 1000)
print([name for name in sys.modules if name.startswith("torchvision")])
"""


def test_stand_ins_for_torchvision_are_gone_once_timm_is_imported() -> None:
    assert fresh(WITHOUT).splitlines() == ["2 1280 True", "[]"]


@pytest.fixture
def _no_timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torchvision_shim.import_timm.cache_clear()
    monkeypatch.setattr(torchvision_shim, "find_spec", lambda name: None)
    yield
    torchvision_shim.import_timm.cache_clear()


@pytest.mark.usefixtures("_no_timm")
def test_without_timm_the_message_is_the_command_that_installs_it() -> None:
    expected = (
        "timm is not installed, which most backbones come from; run: "
        "pip install --no-deps timm==1.0.31 && pip install huggingface_hub"
    )
    with pytest.raises(UserError) as stop:
        find_backbone("a_network_of_timm")
    assert str(stop.value) == expected
    with pytest.raises(UserError, match="timm is not installed"):
        LIBRARIES["timm"].names()


def test_the_command_names_the_version_that_is_tested() -> None:
    pins = (ROOT / "constraints.txt").read_text().split()
    (wanted,) = (word for word in torchvision_shim.INSTALL.split() if word.startswith("timm=="))
    assert wanted in pins


def test_a_need_of_timm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'huggingface_hub'")

    torchvision_shim.import_timm.cache_clear()
    monkeypatch.setattr(torchvision_shim, "torchvision_imports", lambda: True)
    monkeypatch.setattr(torchvision_shim.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"\(No module named 'huggingface_hub'\); run: pip"):
        torchvision_shim.import_timm()
