"""IB loss and IBB of a whole set are those of its images taken as one batch."""

import pytest
import torch

from dcsnas.evaluation.information import measure_information
from dcsnas.losses.bound import information_bound, soft_assignment
from information_reference import class_means, conditional, ib_loss

CLASSES, FEATURES, INPUTS = 5, 7, 6


@pytest.mark.parametrize("rows", [1, 4, 13, 100])
def test_blocks_change_nothing(rows: int) -> None:
    labels = torch.arange(13) % CLASSES
    features = torch.randn(13, FEATURES) + torch.eye(CLASSES, FEATURES)[labels]
    inputs = torch.randn(13, INPUTS)
    found = measure_information(features, inputs, labels, CLASSES, rows=rows)

    features, inputs = features.double(), inputs.double()
    phi_f = soft_assignment(features, class_means(features, labels, CLASSES))
    phi_x = soft_assignment(inputs, class_means(inputs, labels, CLASSES))
    q = conditional(phi_f, labels, CLASSES)
    assert found.ib_loss == pytest.approx(float(ib_loss(phi_f, phi_x, labels)), rel=1e-12)
    bound = float(information_bound(phi_f, phi_x, labels, q))
    assert found.ibb == pytest.approx(bound, rel=1e-12)
