"""The detector: shapes, gradients, what its heads learn from, and backbones that do not do."""

from typing import Any

import pytest
import torch
from backbone_fakes import FakeBackbone
from torch import Tensor, nn

from dcsnas.config.detection import DetectorConfig
from dcsnas.config.errors import UserError
from dcsnas.detection.cascade import CascadeHeads
from dcsnas.detection.detector import Detector, build_detector, observed_maps
from dcsnas.nn.build import build
from dcsnas.spaces.sampling import largest_choice
from dcsnas.spaces.space import load_space
from detection_setup import DETECTOR, needs_torchvision, network

CONFIG = DetectorConfig.model_validate(DETECTOR)
SIZES = [(64, 64), (60, 50)]


def detector(**changes: Any) -> Detector:
    needs_torchvision()
    config = CONFIG.model_copy(update=changes)
    return build_detector(network("dcs"), config, 4)


def targets(count: int = 2) -> list[dict[str, Tensor]]:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 10:40, 8:30] = 1
    thing = {"boxes": torch.tensor([[8.0, 10, 30, 40]]), "labels": torch.tensor([2])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    full = {**thing, "masks": mask}
    return [full, {**nothing, "masks": mask[:0]}] if count == 1 else [full, full]


def test_every_parameter_that_runs_learns_and_losses_fall() -> None:
    model = detector().train()
    images = torch.randn(2, 3, 64, 64)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    seen, losses = [], {}
    for _ in range(8):
        losses = model(images, SIZES, targets())
        assert isinstance(losses, dict)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert set(losses) == {"object", "proposal", "mask"} | {
        f"{name}_{stage}" for name in ("category", "box") for stage in range(3)
    }
    assert seen[-1] < 0.9 * seen[0]
    lacking = [name for name, one in model.named_parameters() if one.grad is None]
    unused = [name for name in lacking if not name.startswith("pyramid.backbone.layers.")]
    assert not unused, "only the backbone's own head is not run"
    assert len(lacking) < 8


@pytest.mark.parametrize("count", [0, 1])
def test_images_without_annotations_train(count: int) -> None:
    model = detector().train()
    empty = targets(1)[1]
    wanted = targets(1) if count else [empty, empty]
    losses = model(torch.randn(2, 3, 64, 64), SIZES, wanted)
    assert isinstance(losses, dict)
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(value.isfinite()) for value in losses.values())
    if not count:
        assert losses["mask"] == losses["box_0"] == losses["proposal"] == 0


def test_detections_lie_within_their_images() -> None:
    model = detector(least_score=0.0).eval()
    with torch.no_grad():
        found: Any = model(torch.randn(2, 3, 64, 64), SIZES)
    assert len(found) == 2
    for one, (height, width) in zip(found, SIZES, strict=True):
        assert 0 < len(one.boxes) <= CONFIG.detections
        assert one.masks.shape == (len(one.boxes), 1, 28, 28)
        assert one.boxes.min() >= 0
        assert one.boxes[:, 2].max() <= width
        assert one.boxes[:, 3].max() <= height
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert 1 <= one.labels.min()
        assert one.labels.max() <= 3
    silent = detector(least_score=1.0).eval()
    with torch.no_grad():
        nothing: Any = silent(torch.randn(2, 3, 64, 64), SIZES)
    assert [len(one.boxes) for one in nothing] == [0, 0]


def heads() -> CascadeHeads:
    model = detector()
    return model.heads


def test_later_stages_ask_for_more_overlap() -> None:
    cascade = heads()
    things = {"boxes": torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]]),
              "labels": torch.tensor([3, 1])}  # fmt: skip
    # overlaps with the first thing: 1, 0.65, 0.55; then one with the second, one with none
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 13], [0, 0, 11, 20], [40, 40, 60, 61],
                          [30, 0, 38, 8]])  # fmt: skip
    labels = [cascade._matched(stage, boxes, things).labels.tolist() for stage in range(3)]
    assert labels == [[3, 3, 3, 1, 0], [3, 3, 0, 1, 0], [3, 0, 0, 1, 0]]
    first = cascade._matched(0, boxes, things)
    assert first.goals[3].tolist() == [40, 40, 60, 60]


def test_a_stage_that_predicts_its_goal_moves_there() -> None:
    cascade = heads()
    boxes = torch.tensor([[5.0, 5, 25, 30], [10, 0, 30, 30]])
    goals = torch.tensor([[8.0, 4, 24, 28], [10, 2, 36, 31]])
    for stage in range(3):
        moves = cascade.coders[stage].encode_single(goals, boxes)
        moved = cascade._moved(stage, moves, [boxes], [(64, 64)])[0]
        assert torch.allclose(moved, goals, atol=1e-4)


def test_a_perfect_mask_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cascade, target = heads(), targets()[0]
    target["masks"] = torch.ones_like(target["masks"])
    wanted = torch.full((1, 4, 28, 28), -30.0)
    wanted[:, 2] = 30.0  # all of the box is inside
    monkeypatch.setattr(cascade, "_masks", lambda maps, boxes: wanted)
    drawn = cascade._matched(0, target["boxes"], target)
    assert cascade._mask_loss({}, [drawn], [target]) < 1e-6
    monkeypatch.setattr(cascade, "_masks", lambda maps, boxes: -wanted)
    assert cascade._mask_loss({}, [drawn], [target]) > 20


def test_under_autocast_boxes_stay_exact() -> None:
    model = detector().eval()
    seen: list[Tensor] = []
    model.proposals.register_forward_hook(lambda module, args, out: seen.extend(out[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(1, 3, 64, 64), [(64, 64)])
    assert all(boxes.dtype == torch.float32 for boxes in seen)
    fractions = torch.cat(seen).frac()
    assert (fractions * 256 % 1 > 0).any(), "coordinates have more digits than bfloat16 has"


class Maps(nn.Module):
    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        return [x.new_zeros(1, *shape) for shape in self.shapes]


@pytest.mark.parametrize("shapes", [(), ((8, 32, 32), (8, 8, 8)), ((768, 64, 1),)])
def test_a_backbone_without_a_pyramid_is_refused(shapes: Any) -> None:
    fake: Any = Maps(*shapes)
    with pytest.raises(UserError, match="detection needs maps"):
        observed_maps(fake)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_maps_of_a_backbone_with_attention(fake_backbone: FakeBackbone, layout: Any) -> None:
    fake_backbone.layout = layout
    space = load_space("fake", "sa")
    backbone = build(space.described(largest_choice(space), (64, 64), seed=0).network).train()
    assert observed_maps(backbone) == ([4, 8, 12], [4, 8, 16])
    assert backbone.training
