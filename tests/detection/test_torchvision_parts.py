"""torchvision's own operators stay where they load, and ours take their place where not."""

import importlib
import sys

import pytest

from dcsnas.config.errors import UserError
from dcsnas.detection import torchvision_parts
from detection_setup import needs_torchvision


@pytest.mark.parametrize("compiled", [True, False])
def test_operators_are_replaced_only_where_they_are_missing(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    needs_torchvision()
    extension = importlib.import_module("torchvision.extension")
    monkeypatch.setattr(extension, "_has_ops", lambda: compiled)
    for name, replaced in torchvision_parts.PATCHED.items():
        for operator in replaced:
            monkeypatch.setattr(importlib.import_module(name), operator, "torchvision's")
    torchvision = torchvision_parts.import_torchvision.__wrapped__()
    for name in ("nms", "roi_align"):
        own = getattr(torchvision_parts, name)
        assert getattr(torchvision.ops, name) == ("torchvision's" if compiled else own)
    assert torchvision.ops.boxes.nms == ("torchvision's" if compiled else torchvision_parts.nms)


@pytest.mark.parametrize("missing", ["torchvision", "pycocotools"])
def test_without_the_extra_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    load = getattr(torchvision_parts, f"import_{missing}").__wrapped__
    with pytest.raises(UserError) as error:
        load()
    assert f"detection needs {missing}" in str(error.value)
    assert "pip install --no-deps torchvision==0.28.0 && pip install pycocotools" in str(
        error.value
    )
    assert "\n" not in str(error.value)
