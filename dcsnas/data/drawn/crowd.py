"""Scenes of several people who hide each other, and which pixels each person and garment has.

A person is painted twice in the same place: once as they look, and once in pure colours that say
which part a pixel belongs to. Later ones are nearer, and take the pixels that they cover.
"""

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from dcsnas.data.drawn.appearance import Appearance, Colours, choose, draw_appearance, draw_colours
from dcsnas.data.drawn.figure import VIEWS, draw_person
from dcsnas.data.drawn.scene import SUPERSAMPLING, Camera, draw_occluder, draw_place, expose

CATEGORIES = ("person", "top", "trousers", "shorts", "skirt")
LOWER = {"trousers": "trousers", "shorts": "shorts", "skirt": "skirt", "long skirt": "skirt"}
"""The category of a lower garment."""
OBSTACLES = ("post", "bush")
MAX_PEOPLE = 4
LEAST_PIXELS = 16
LEAST_SHARE = 0.3
"""What must be seen of a person or a garment, in pixels and of all of it, to be a thing."""

_RED, _GREEN, _BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
_PURE = Colours(_BLUE, _BLUE, (_RED, _RED), (_GREEN, _GREEN), _BLUE, _BLUE)
"""Upper garment red, lower one green, the rest blue; shading keeps which of the three it is."""
_HALF_WIDTH = 0.5
"""Of a person with arms and bag, in heights."""


@dataclass(frozen=True)
class Thing:
    """A person or a garment in a picture: its category, and the pixels [H, W] that are seen."""

    category: str
    mask: np.ndarray


@dataclass
class _Layer:
    """A thing while the scene is painted, at the supersampled size."""

    category: str
    mask: np.ndarray
    painted: int
    """Pixels before anything hid some of them."""


def draw_scene(
    camera: Camera, rng: np.random.Generator, *, height: int, width: int
) -> tuple[Image.Image, list[Thing]]:
    """Return a picture (RGB, ``height`` x ``width``) of up to four people, and what is seen on it.

    A person has their garments and bag. What is hardly seen is no thing.
    """
    size = width * SUPERSAMPLING, height * SUPERSAMPLING
    image = draw_place(camera, rng, size)
    layers: list[_Layer] = []
    for share in np.sort(rng.uniform(0.35, 0.95, size=int(rng.integers(0, MAX_PEOPLE + 1)))):
        look = draw_appearance(rng, draw_colours(rng))
        parts = _paint_person(image, look, rng, float(share))
        _hide(layers, parts > 0)
        seen = {"person": parts > 0, "top": parts == 1, LOWER[look.lower]: parts == 2}
        layers += [_Layer(name, mask, int(mask.sum())) for name, mask in seen.items()]
        if rng.random() < camera.occlusion:
            _hide(layers, _paint_obstacle(image, rng))
    picture = expose(image.reduce(SUPERSAMPLING), camera, rng)
    things = [(layer, Thing(layer.category, _reduced(layer.mask))) for layer in layers]
    return picture, [thing for layer, thing in things if _is_seen(layer, thing)]


def _is_seen(layer: _Layer, thing: Thing) -> bool:
    enough = layer.mask.sum() >= LEAST_SHARE * layer.painted
    return bool(enough and thing.mask.sum() >= LEAST_PIXELS)


def _hide(layers: list[_Layer], covered: np.ndarray) -> None:
    for layer in layers:
        layer.mask &= ~covered


def _reduced(mask: np.ndarray) -> np.ndarray:
    """Return the pixels [H, W] of which at least half is covered."""
    rows, columns = (side // SUPERSAMPLING for side in mask.shape)
    blocks = mask.reshape(rows, SUPERSAMPLING, columns, SUPERSAMPLING)
    return blocks.mean((1, 3)) >= 0.5


def _paint_person(
    image: Image.Image, look: Appearance, rng: np.random.Generator, share: float
) -> np.ndarray:
    """Paint a person as high as ``share`` of the picture; return 1 upper, 2 lower, 3 rest.

    The larger they are, the nearer they stand, so the lower are their feet.
    """
    width, height = image.size
    x, y = width * rng.uniform(0.02, 0.98), height * (0.62 + 0.38 * share + rng.uniform(-0.04, 0.1))
    stance = {
        "view": choose(rng, VIEWS),
        "phase": float(rng.uniform(0, math.tau)),
        "unit": height * share,
    }
    # cloth is painted as large as the picture, so a picture of the surroundings alone will do
    reach = stance["unit"] * _HALF_WIDTH
    left, right = max(0, int(x - reach)), min(width, int(x + reach))
    top, bottom = max(0, int(y - 1.1 * stance["unit"])), min(height, int(y + 0.1 * stance["unit"]))
    own = image.crop((left, top, right, bottom))
    foot = x - left, y - top
    draw_person(own, look, foot=foot, **stance)
    image.paste(own, (left, top))
    pure = Image.new("RGB", own.size)
    plain = replace(look, colours=_PURE, upper_pattern="plain")
    draw_person(pure, plain, foot=foot, **stance)
    parts = np.zeros((height, width), np.uint8)
    parts[top:bottom, left:right] = _parts(np.asarray(pure))
    return parts


def _parts(pure: np.ndarray) -> np.ndarray:
    """Return the part of each pixel of a picture in pure colours; eyes are grey, so of the rest."""
    red, green, blue = (pure[..., channel] > 0 for channel in range(3))
    return np.select([blue, red, green], [3, 1, 2], 0).astype(np.uint8)


def _paint_obstacle(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Paint a post or a bush somewhere; return which pixels it covers."""
    width, height = image.size
    kind = choose(rng, OBSTACLES)
    across, down = (0.5, 1.0) if kind == "post" else (0.35, 0.5)
    size = round(width * across), round(height * down)
    corner = round(rng.uniform(0, width - size[0])), height - size[1]
    patch = Image.new("RGB", size)
    again = copy.deepcopy(rng)
    draw_occluder(patch, kind, rng)
    inverse = Image.new("RGB", size, (255, 255, 255))
    draw_occluder(inverse, kind, again)
    painted = (np.asarray(patch) == np.asarray(inverse)).all(2)
    image.paste(patch, corner, Image.fromarray((255 * painted).astype(np.uint8)))
    covered = np.zeros((height, width), bool)
    covered[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] = painted
    return covered
