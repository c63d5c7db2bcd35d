"""Mixup and cutmix against loops, and which of the two a batch gets."""

import pytest
import torch

from dcsnas.data.mixing import Mixed, Mixing, cutmix


def batch(count: int = 6, height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images of one value each, which tells them apart in every pixel."""
    images = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(count, 3, height, width)
    return images.contiguous(), torch.arange(count)


@pytest.mark.parametrize("seed", range(12))
def test_cutmix_pastes_one_box_of_the_partner(seed: int):
    images, labels = batch()
    mixed = cutmix(images, labels, alpha=1.0, generator=torch.Generator().manual_seed(seed))
    assert sorted(mixed.partners.tolist()) == labels.tolist()
    boxes = set()
    for image, own, partner in zip(
        mixed.images, labels.tolist(), mixed.partners.tolist(), strict=True
    ):
        if own == partner:
            assert (image == own + 1).all()
            continue
        foreign = image[0] == partner + 1
        assert ((image == own + 1) | (image == partner + 1)).all()
        assert (image[0] == image[1]).all()
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        if len(rows):
            part = foreign[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert part.all()
            boxes.add((int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])))
        assert mixed.weight == pytest.approx(1 - float(foreign.float().mean()))
    assert len(boxes) <= 1


def test_the_share_of_the_box_follows_the_beta_distribution():
    images, labels = batch(2, 100, 100)
    draws = [
        cutmix(images, labels, alpha=1.0, generator=torch.Generator().manual_seed(seed)).weight
        for seed in range(300)
    ]
    shares = 1 - torch.tensor(draws)
    # a box of share u = 1 - Beta(1, 1) whose centre is uniform keeps of each side s = sqrt(u)
    # the part s - s^2 / 4, so of its area E[u (1 - s / 4)^2] = 1/2 - 1/5 + 1/48
    assert float(shares.mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.04)
    assert torch.equal(images, batch(2, 100, 100)[0]), "cutmix works on a copy"


def kinds(mixing: Mixing, batches: int = 60) -> list[str]:
    """Return what each batch got: mixup blends every pixel, cutmix leaves whole ones."""
    images, labels = batch(4, 40, 40)
    found = []
    for seed in range(batches):
        mixed: Mixed = mixing(images, labels, generator=torch.Generator().manual_seed(seed))
        whole = torch.isin(mixed.images, torch.arange(1.0, 5)).all()
        found.append("cutmix" if whole else "mixup")
    return found


def test_each_batch_gets_one_of_the_two():
    assert set(kinds(Mixing(mixup=0.4), 9)) == {"mixup"}
    assert set(kinds(Mixing(cutmix=1.0), 9)) == {"cutmix"}
    both = kinds(Mixing(mixup=0.4, cutmix=1.0), 100)
    assert 30 < both.count("mixup") < 70
    assert both == kinds(Mixing(mixup=0.4, cutmix=1.0), 100)
    assert not Mixing()
