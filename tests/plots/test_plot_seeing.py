"""Pictures of what a network sees: files, what is refused, and what is left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcsnas.cli.runs import plot
from dcsnas.config.errors import UserError
from dcsnas.config.files import write_yaml
from dcsnas.config.stages import DataConfig
from dcsnas.evaluation.information import fisher_score
from dcsnas.evaluation.pairs import Embeddings
from dcsnas.nn.build import build
from dcsnas.nn.heads import BNNeck, TaskNetwork
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.plots.features import in_plane, most_shown, plot_features
from dcsnas.plots.seen_run import plot_seeing
from dcsnas.spaces.space import SearchSpace
from latency_fakes import micro_space
from plot_fakes import texts_of
from reid_data import write_reid_set


def write_trained_run(root: Path, space: SearchSpace) -> Path:
    """Write the run folder of a network that was trained on the set in ``root / data``."""
    run, data = root / "run", write_reid_set(root / "data", identities=3)
    file = space.sample(seed=0)
    backbone = build(file)
    network = TaskNetwork(backbone, BNNeck(backbone.feature_dim, 3))
    header = header_of("retrain", file, DataConfig(root=data), space.size, 3)
    run.mkdir()
    save_weights(run / "model.safetensors", network.state_dict(), header)
    write_yaml(run / "config.yaml", {"stage": "retrain", "data": {"root": str(data)}})
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_trained_run(tmp_path, micro_space())


def test_every_picture(run: Path) -> None:
    written, left_out = plot_seeing(run, [run.parent / "data" / "query"], place=(0.2, 0.7))
    assert [path.name for path in written] == [
        *("seen.png", "selected.png", "selected.svg", "features.png", "features.svg")
    ]
    assert left_out == []
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    run = write_trained_run(tmp_path, micro_space().without_attention())
    (tmp_path / "data").rename(tmp_path / "moved")
    written, left_out = plot_seeing(run, [tmp_path / "moved" / "query"])
    assert [path.name for path in written] == ["seen.png"]
    assert left_out[0] == "selected: no attention of this network leaves channels out"
    assert left_out[1].startswith("features: ")
    assert str(tmp_path / "data") in left_out[1]


@pytest.mark.parametrize("place", [(1.0, 0.5), (-0.1, 0.5), (0.5, float("nan"))])
def test_a_place_outside_of_the_image(run: Path, place: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="a place has shares of an image's height and width"):
        plot_seeing(run, [run.parent / "data" / "query"], place=place)


def test_what_is_no_trained_run_or_no_image(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: no such"):
        plot_seeing(run, [tmp_path / "gone"])
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be decoded"):
        plot_seeing(run, [tmp_path / "broken.jpg"])
    with pytest.raises(UserError, match=r"holds no model\.safetensors; --images shows what"):
        plot_seeing(tmp_path, [run.parent / "data" / "query"])
    assert not (run / "plots").exists()


def test_identities_with_the_most_images() -> None:
    labels = torch.tensor([5, 5, 5, 2, 2, 9, 9, 7, -1, -1, -1, -1, 0, 0, 0, 0])
    assert most_shown(labels) == [5, 2, 9]
    assert most_shown(labels, 2) == [5, 2]


def test_identities_lie_apart_in_the_plane_where_their_features_do() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(20)
    features = 3 * torch.eye(16)[labels] + 0.1 * torch.randn(80, 16, generator=generator)
    points = in_plane(features, labels)
    assert np.array_equal(points, in_plane(features, labels))
    means = np.stack([points[labels.numpy() == k].mean(0) for k in range(4)])
    spread = np.mean([points[labels.numpy() == k].std(0).max() for k in range(4)])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2)[~np.eye(4, dtype=bool)]
    assert distances.min() > 3 * spread


def test_the_picture_of_features_names_score_and_images() -> None:
    torch.manual_seed(0)
    labels = torch.arange(1, 5).repeat_interleave(6)
    features = torch.randn(24, 8) + torch.eye(8)[labels]
    figure = plot_features([Embeddings(features, labels, labels)], source="a set")
    texts = " ".join(text.get_text() for text in texts_of(figure)).replace("\n", " ")
    assert f"4 identities, Fisher score {fisher_score(features, labels):.2f}" in texts
    assert "24 images" in texts
    with pytest.raises(UserError, match="a set: 2 identities have 2 images or more"):
        plot_features([Embeddings(features[:12], labels[:12], labels[:12])], source="a set")


@pytest.mark.parametrize("at", ["middle", "0.5", "0.1,0.2,0.3"])
def test_a_place_that_is_no_two_numbers(run: Path, at: str) -> None:
    with pytest.raises(UserError, match=f"--at {at}: expected two numbers"):
        plot(run, [run.parent / "data" / "query"], at)
    assert not (run / "plots").exists()
