"""Exported files: what they compute, what they say, and when there is none."""

import importlib.util
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dcsnas
from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest
from dcsnas.deployment import export
from dcsnas.deployment.embedding import Embedder, find_images
from dcsnas.deployment.export import TOLERANCE, PixelsToFeatures, export_onnx
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.latency.backends.onnx_runtime import to_onnx
from dcsnas.nn.weights import read_header
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace
from deployment_setup import MEAN, STD, Networks, pixels_of
from latency_fakes import micro_space

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ATTENTION = [
    *product(("dcs", "sa"), ("dot", "softmax"), ("none", "sqrt", "cosine")),
    ("none", "dot", "cosine"),
]


def session_of(path: Path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_features_are_those_of_embed(weights: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model.onnx"
    exported = export_onnx(weights, out)
    files = find_images([people / "query"])
    expected = Embedder(weights, device="cpu").embed(files)
    session = session_of(out)
    for count in (1, 2, 16):
        images = pixels_of(files[:count], exported.input)
        (found,) = session.run(["features"], {"images": images})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=2e-6)
    assert exported.num_bytes == out.stat().st_size
    assert [found.batch for found in exported.differences] == [1, 3]
    assert all(found.features < 1e-5 for found in exported.differences)


def test_inputs_and_outputs(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    exported = export_onnx(weights, out)
    session = session_of(out)
    (image,), (feature,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == (
        "images", "tensor(uint8)", ["batch", 3, 16, 8]
    )  # fmt: skip
    assert (feature.name, feature.type) == ("features", "tensor(float)")
    assert feature.shape == ["batch", exported.feature_dim]
    normalised = np.zeros((1, 3, 16, 8), np.float32)
    with pytest.raises(Exception, match=r"Actual: \(tensor\(float\)\) , expected: \(tensor\(uint8"):
        session.run(None, {"images": normalised})


def test_metadata(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    exported = export_onnx(weights, out)
    properties = session_of(out).get_modelmeta().custom_metadata_map
    architecture = read_header(weights).architecture
    assert architecture is not None
    assert properties.pop("dcsnas_version") == dcsnas.__version__
    assert properties.pop("architecture") == architecture.network.digest
    assert properties.pop("weights") == file_digest(weights)
    assert {key: json.loads(value) for key, value in properties.items()} == {
        "input": [16, 8],
        "mean": list(MEAN),
        "std": list(STD),
        "max_difference": max(found.features for found in exported.differences),
    }


def test_file_holds_no_paths_and_is_the_same_each_time(weights: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_onnx(weights, tmp_path / name)
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    for path in (Path(dcsnas.__file__).parent, Path(torch.__file__).parent, tmp_path):
        assert str(path).encode() not in content


@pytest.mark.parametrize(("kind", "affinity", "scale"), ATTENTION)
def test_every_attention(
    networks: Networks, tmp_path: Path, kind: str, affinity: str, scale: str
) -> None:
    attention = {"kind": kind, "affinity": affinity, "scale": scale, "tau": 0.7}
    weights = networks.save("x.safetensors", micro_space(attention=attention))
    exported = export_onnx(weights, tmp_path / "x.onnx")
    assert all(found.features < 1e-5 for found in exported.differences)
    # one module behind the second block, at a quarter of the input's height and width
    assert [found.selections > 0 for found in exported.differences] == [kind == "dcs"] * 2


LARGE = ("large", "hrnet", "convnext", "vit", "transreid", "mobilenetv2_200", "resnet50")
LARGE += ("osnet_x0_5", "osnet_x0_75", "osnet_x1_0")  # osnet_x0_25 is a narrower one


def every_space() -> list:
    """Return the files of all spaces; the large ones take 3 to 10 s each."""
    large = {file: any(name in file.stem for name in LARGE) for file in shipped_spaces()}
    return [
        pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if is_large else [])
        for file, is_large in large.items()
    ]


@pytest.mark.parametrize("file", every_space())
def test_blocks_and_heads_of_every_space(networks: Networks, tmp_path: Path, file: Path) -> None:
    space = SearchSpace.load(file).with_attention("dcs")
    size = space.size if space.name == "hacnn" else (64, 32)  # it takes no other
    weights = networks.save("x.safetensors", space, smallest=True, size=size)
    exported = export_onnx(weights, tmp_path / "x.onnx")
    assert exported.input == size
    # as far as float32 is from float64 in a network of 260 layers that was never trained
    assert all(found.features < 5e-5 for found in exported.differences)
    assert all(found.selections > 0 for found in exported.differences)


class NormalisedTwice(PixelsToFeatures):
    def forward(self, images: Tensor) -> Tensor:
        once = self.normalize(images)
        twice = self.normalize.standardize_(once * 255)
        return torch.nn.functional.normalize(self.network.embed(twice))


def test_model_that_differs_is_not_kept(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(module: PixelsToFeatures, images: Tensor, **options: Any) -> bytes:
        header = read_header(weights)
        return to_onnx(NormalisedTwice(module.network, header).eval(), images, **options)

    out = tmp_path / "new" / "model.onnx"
    export_onnx(weights, out)
    before = out.read_bytes()
    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(UserError, match=r"model\.onnx: not written, because ONNX Runtime differs"):
        export_onnx(weights, out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(("features", "margin"), [(2e-4, 0.0), (0.0, 2e-4), (float("nan"), 0.0)])
def test_tolerance(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    features: float,
    margin: float,
) -> None:
    def found(*arguments: object) -> export.Difference:
        return export.Difference(1, features, features, 10, 1, margin)

    assert TOLERANCE == 1e-4
    monkeypatch.setattr(export, "compare", found)
    with pytest.raises(UserError, match=r"allowed: 0\.0001 each; install the versions"):
        export_onnx(weights, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_missing_package(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(UserError, match=f"export to ONNX: the package {missing} is not installed"):
        export_onnx(weights, tmp_path / "model.onnx")


def test_a_network_in_use_stays_as_it_is(weights: Path, tmp_path: Path) -> None:
    """A sibling of its device, which only a GPU can show: the mode of its modules."""
    used = load_reid_network(weights)
    used.network.train()
    export_onnx(used, tmp_path / "model.onnx")
    assert used.network.training
