"""Programs of ExecuTorch: what they compute, what they say, and when there is none."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import dcsnas
from dcsnas.config.errors import UserError
from dcsnas.deployment import executorch, export
from dcsnas.deployment.embedding import Embedder, find_images
from dcsnas.deployment.executorch import call, executorch_run, export_executorch, lowered
from dcsnas.deployment.parity import compare
from dcsnas.nn.attention.block import AttentionBlock
from deployment_setup import pixels_of

needs = pytest.mark.skipif(
    find_spec("executorch") is None, reason=f"needs ExecuTorch: {executorch.INSTALL}"
)


@needs
@pytest.mark.slow
def test_features_are_those_of_embed(weights: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pte"
    exported = export_executorch(weights, out)
    assert dcsnas.load_weights(weights).export(tmp_path / "same.pte") == exported
    program, files = out.read_bytes(), find_images([people / "query"])[:3]
    expected = Embedder(weights, device="cpu").embed(files)
    for image, features in zip(pixels_of(files, exported.input), expected, strict=True):
        (found,) = call(program, "forward", torch.from_numpy(image)[None])
        np.testing.assert_allclose(found[0], features, atol=2e-6)
    assert (exported.batch, exported.num_bytes) == (1, len(program))
    assert [one.selections > 0 for one in exported.differences] == [True] * 3
    (told,) = call(program, "metadata")
    assert {"dcsnas_version": dcsnas.__version__, "input": [16, 8]}.items() <= json.loads(
        told
    ).items()


@needs
@pytest.mark.slow
def test_a_program_of_another_network_is_told_from_its_own() -> None:
    """A weight and a mask that differ are both seen."""
    torch.manual_seed(0)
    block = AttentionBlock(8, kind="dcs", affinity="dot", scale="cosine", tau=1.0)
    nn.init.ones_(block.norm.weight)
    theta: Any = block.get_submodule("selectors.dcs.theta")
    nn.init.zeros_(theta.weight)
    theta.bias.data = torch.tensor([1.0, -1, 1, -1, 1, 1, -1, 1])
    module = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.rand(1, 8, 4, 4)
    run = executorch_run(lowered(module, images), module, images)
    same = compare(run, module, images)
    assert (same.differing, same.selections) == (0, 128)
    assert same.features < 1e-6
    theta.bias.data[0] = -1.0
    assert compare(run, module, images).differing == 16
    theta.bias.data[0], block.norm.bias.data[0] = 1.0, 0.5
    assert compare(run, module, images).features > 1e-3


@needs
@pytest.mark.slow
def test_nothing_is_written_where_it_differs(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(UserError, match=r"model.pte: not written, because ExecuTorch differs from"):
        export_executorch(weights, tmp_path / "model.pte")
    assert not (tmp_path / "model.pte").exists()


def test_without_the_packages_it_says_what_to_install(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(executorch, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(UserError, match=r"not installed \(No module .* pip install --no-deps exec"):
        export_executorch(weights, tmp_path / "model.pte")
