"""The re-identification network around a backbone, and the choice of a device."""

from typing import Any

import pytest
import torch
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.nn.distributed import pick_device
from dcsnas.nn.heads import BNNeck, TaskNetwork


def network() -> Any:
    return TaskNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), BNNeck(5, 4))


def test_losses_see_features_before_the_neck() -> None:
    model, images = network(), torch.randn(6, 3, 2, 2)
    out = model(images)
    assert torch.equal(out.features, model.backbone(images))
    features = out.features
    normal = (features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(out.logits, normal @ model.neck.classifier.weight.T)


def test_retrieval_uses_features_after_the_neck() -> None:
    model = network().eval()
    model.neck.norm.running_mean = torch.arange(5.0)
    model.neck.norm.running_var = torch.arange(5.0) + 1
    images = torch.randn(6, 3, 2, 2)
    expected = (model.backbone(images) - torch.arange(5.0)) / (torch.arange(5.0) + 1 + 1e-5).sqrt()
    torch.testing.assert_close(model.embed(images), expected)


def test_every_parameter_but_the_shift_is_trained() -> None:
    model = network()
    out = model(torch.randn(6, 3, 2, 2))
    (out.logits * torch.randn(6, 4)).sum().backward()
    for name, parameter in model.named_parameters():
        if name == "neck.norm.bias":
            assert parameter.grad is None
            assert not parameter.requires_grad
            assert parameter.abs().sum() == 0
        else:
            assert parameter.grad is not None, f"{name} gets no gradient"
            assert parameter.grad.abs().sum() > 0, f"{name} has a zero gradient"


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="torch finds no CUDA device here; use --device cpu"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
