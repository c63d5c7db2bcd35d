"""Normalisation exactly once, and augmentation that a seed reproduces."""

import subprocess
import sys
from pathlib import Path

import kornia.augmentation as kornia
import pytest
import torch

from dcsnas.config.stages import AugmentConfig, DataConfig
from dcsnas.data.augment import Augment, Normalize, make_augment
from dcsnas.data.mixing import mixup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (16, 8)


def batch(count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)


def test_normalise_equals_a_naive_loop():
    images = batch(2)
    out = Normalize(MEAN, STD)(images)
    assert out.dtype == torch.float32
    for b in range(2):
        for c in range(3):
            expected = [
                [(v / 255 - MEAN[c]) / STD[c] for v in row] for row in images[b, c].tolist()
            ]
            torch.testing.assert_close(out[b, c], torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_normalised_images_are_refused_a_second_time():
    normalize = Normalize(MEAN, STD)
    with pytest.raises(TypeError, match=r"not torch\.float32: normalised before"):
        normalize(normalize(batch()))
    with pytest.raises(TypeError, match="uint8"):
        Augment(SIZE, mean=MEAN, std=STD)(normalize(batch()))


def test_the_constants_stay_out_of_checkpoints():
    assert Augment(SIZE, mean=MEAN, std=STD, pad=2, flip=0.5, erase=0.5).state_dict() == {}


def test_without_augmentation_only_normalisation_is_left():
    images = batch()
    plain = Augment(SIZE, mean=MEAN, std=STD)(images)
    torch.testing.assert_close(plain, Normalize(MEAN, STD)(images), rtol=0, atol=0)


def test_flip_mirrors_the_width():
    images = batch()
    flipped = Augment(SIZE, mean=MEAN, std=STD, flip=1.0)(images)
    torch.testing.assert_close(flipped, Normalize(MEAN, STD)(images).flip(3), rtol=0, atol=0)


def test_pad_and_crop_is_a_shift_filled_with_black():
    images = batch()
    normalize = Normalize(MEAN, STD)
    padded = normalize(torch.nn.functional.pad(images, (3, 3, 3, 3)))
    shifts = set()
    torch.manual_seed(0)
    for original, cropped in zip(
        padded, Augment(SIZE, mean=MEAN, std=STD, pad=3)(images), strict=True
    ):
        matches = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if torch.allclose(original[:, y : y + SIZE[0], x : x + SIZE[1]], cropped, atol=1e-5)
        ]
        assert len(matches) == 1
        shifts.update(matches)
    assert len(shifts) > 3


@pytest.mark.parametrize("value", [(0.0, 0.0, 0.0), (0.5, -1.25, 3.0)])
def test_erasing_fills_one_rectangle_with_its_colour(value: tuple[float, float, float]):
    images = batch(32)
    torch.manual_seed(0)
    erased = Augment(SIZE, mean=MEAN, std=STD, erase=1.0, erase_value=value)(images)
    changed = (erased != Normalize(MEAN, STD)(images)).any(1)
    shares = []
    for image, mask in zip(erased, changed, strict=True):
        ys, xs = mask.nonzero(as_tuple=True)
        rectangle = (
            slice(int(ys.min()), int(ys.max()) + 1),
            slice(int(xs.min()), int(xs.max()) + 1),
        )
        assert mask[rectangle].all()
        assert (image[:, *rectangle] == torch.tensor(value).view(3, 1, 1)).all()
        shares.append(mask.float().mean().item())
    assert max(shares) <= 0.45
    assert len(set(shares)) > 5


def test_erasing_is_kornias_and_draws_as_it_does():
    images = batch(16)
    torch.manual_seed(3)
    erase = kornia.RandomErasing(p=0.5, scale=(0.02, 0.4), ratio=(0.3, 3.33), value=0.0)
    # the probabilities of the flip are drawn before
    flip = kornia.RandomHorizontalFlip(p=0.5)
    expected = erase(Normalize(MEAN, STD)(flip(images.float()).to(torch.uint8)))
    torch.manual_seed(3)
    assert torch.equal(Augment(SIZE, mean=MEAN, std=STD, flip=0.5, erase=0.5)(images), expected)


def test_bag_of_tricks_erases_with_the_mean_of_plain_images():
    """Its program puts ``cfg.INPUT.PIXEL_MEAN`` into images that were normalised with it before."""
    mean, std = (0.5, 0.6, 0.7), (0.25, 0.2, 0.15)
    data = DataConfig(root=Path(), mean=mean, std=std)
    grey = torch.full((4, 3, *SIZE), 255, dtype=torch.uint8)  # (1 - mean) / std = 2 everywhere
    for name, value in (("mean", (0.0, 0.0, 0.0)), ("bot", mean)):
        config = AugmentConfig(pad=0, flip=0.0, erase=1.0, erase_value=name)  # type: ignore[arg-type]
        out = make_augment(data, config, SIZE)(grey)
        for channel, expected in enumerate(value):
            found = out[:, channel].unique()
            torch.testing.assert_close(found, torch.tensor([expected, 2.0]))


def test_probabilities_apply_to_each_image():
    images = batch(400)
    torch.manual_seed(0)
    out = Augment(SIZE, mean=MEAN, std=STD, flip=0.3)(images)
    flipped = (out == Normalize(MEAN, STD)(images).flip(3)).flatten(1).all(1)
    assert 0.2 < flipped.float().mean() < 0.4


def test_a_seed_reproduces_the_batch():
    augment = Augment(SIZE, mean=MEAN, std=STD, pad=2, flip=0.5, erase=0.5)
    torch.manual_seed(7)
    first = augment(batch())
    second = augment(batch())
    torch.manual_seed(7)
    assert torch.equal(augment(batch()), first)
    assert not torch.equal(first, second)


def test_mixup_blends_pairs_with_the_weight_it_returns():
    images = Normalize(MEAN, STD)(batch())
    labels = torch.arange(8)
    mixed = mixup(images, labels, alpha=0.4, generator=torch.Generator().manual_seed(1))
    assert 0 < mixed.weight < 1
    assert sorted(mixed.partners.tolist()) == list(range(8))
    for i in range(8):
        expected = mixed.weight * images[i] + (1 - mixed.weight) * images[mixed.partners[i]]
        torch.testing.assert_close(mixed.images[i], expected)
    assert torch.equal(mixed.labels, labels)


def test_mixup_follows_its_generator_and_the_beta_distribution():
    images, labels = torch.zeros(2, 3, 1, 1), torch.arange(2)

    def weights(seed: int, alpha: float) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        draws = [mixup(images, labels, alpha=alpha, generator=generator) for _ in range(500)]
        return torch.tensor([draw.weight for draw in draws])

    assert torch.equal(weights(0, 0.4), weights(0, 0.4))
    assert not torch.equal(weights(0, 0.4), weights(1, 0.4))
    for alpha in (0.4, 2.0):
        drawn = weights(0, alpha)
        assert drawn.mean().item() == pytest.approx(0.5, abs=0.06)
        assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_the_import_needs_no_torchvision_and_warns_of_nothing():
    code = "import sys, dcsnas.data.augment; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
