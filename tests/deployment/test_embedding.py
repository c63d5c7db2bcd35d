"""Features of files against the formula, in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest
from dcsnas.deployment.embedding import Embedder, find_images, save_embeddings
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.nn.weights import read_header, save_weights
from deployment_setup import Networks
from latency_fakes import micro_space


def by_the_formula(weights: Path, files: list[Path]) -> np.ndarray:
    """Return the features [N, D]: (pixels / 255 - mean) / std, network, neck, unit length."""
    network, header, _ = load_reid_network(weights)
    height, width = header.input
    rows = []
    for file in files:
        picture = Image.open(file).resize((width, height), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, dtype=np.float64) / 255 - header.mean) / header.std
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            row = network.double().eval().embed(image)[0].numpy()
        rows.append(row / np.sqrt((row**2).sum()))
    return np.array(rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_features_follow_the_formula(weights: Path, people: Path, workers: int) -> None:
    files = find_images([people / "query"])
    calls = []
    features = Embedder(weights, device="cpu", workers=workers).embed(
        files, lambda done, total: calls.append((done, total))
    )
    assert features.dtype == np.float32
    assert calls == [(16, 16)]
    expected = by_the_formula(weights, files)
    np.testing.assert_allclose(features, expected, atol=2e-6)
    assert np.abs(expected - expected[0]).max() > 0.1, "the images are told apart"


def test_archive_is_read_without_pickle(weights: Path, tmp_path: Path) -> None:
    embedder = Embedder(weights, device="cpu")
    features = np.eye(2, 3, dtype=np.float32)
    names = [Path("a/é.jpg"), Path("b.jpg")]
    save_embeddings(tmp_path / "x", features, names, embedder.identity)
    with np.load(tmp_path / "x", allow_pickle=False) as archive:
        assert sorted(archive) == ["architecture", "features", "names", "weights"]
        assert np.array_equal(archive["features"], features)
        assert archive["names"].tolist() == ["a/é.jpg", "b.jpg"]
        architecture = read_header(weights).architecture
        assert architecture is not None
        assert str(archive["architecture"]) == architecture.network.digest
        assert str(archive["weights"]) == file_digest(weights)


def test_broken_image_is_named(weights: Path, people: Path) -> None:
    files = find_images([people / "query"])
    files[5].write_bytes(files[5].read_bytes()[:300])
    with pytest.raises(UserError, match=f"^{files[5]}: cannot be decoded as an image"):
        Embedder(weights, device="cpu").embed(files)


def test_network_that_diverged(weights: Path, people: Path) -> None:
    network, header, _ = load_reid_network(weights)
    state = network.state_dict()
    state["neck.norm.running_mean"][2] = torch.nan
    save_weights(weights, state, header)
    files = find_images([people / "query"])
    expected = f"^{files[0]}: its features are not finite, as those of 16 of 16 images; .* retrain"
    with pytest.raises(UserError, match=expected):
        Embedder(weights, device="cpu").embed(files)


def test_weights_without_a_neck(networks: Networks) -> None:
    backbone = networks.save("backbone.safetensors", micro_space(), stage="pretrain")
    with pytest.raises(UserError, match=r"holds weights of stage 'pretrain', .* retrain run"):
        Embedder(backbone)
