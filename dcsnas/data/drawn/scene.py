"""Where and how a person is photographed: a camera's light and place, clutter, occluders, noise."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dcsnas.data.drawn.appearance import Appearance, choose, draw_appearance, draw_colours
from dcsnas.data.drawn.figure import VIEWS, draw_person
from dcsnas.data.drawn.paint import Colour

PLACES = ("street", "park", "wall", "shops", "plaza", "car park")
OCCLUDERS = ("post", "bench", "bush", "passer-by")

SUPERSAMPLING = 3
PREFERRED_VIEW = 0.55  # share of shots in the camera's main view

_GREENS: tuple[Colour, ...] = ((66, 98, 52), (88, 118, 60), (52, 80, 48))
_WALLS: tuple[Colour, ...] = ((168, 150, 128), (142, 92, 74), (186, 182, 172), (110, 116, 124))
_CARS: tuple[Colour, ...] = ((150, 40, 40), (44, 58, 96), (200, 200, 198), (56, 58, 60))


@dataclass(frozen=True)
class Camera:
    """One camera: its place, the view it mostly has of people, and how it renders light.

    ``gain`` is a factor per channel, ``blur`` a radius in 1/64 of the picture's height, ``noise``
    a standard deviation in grey levels.
    """

    place: str
    wall: Colour
    view: str
    gain: tuple[float, float, float]
    gamma: float
    contrast: float
    occlusion: float
    blur: float
    noise: float


def draw_camera(rng: np.random.Generator, index: int) -> Camera:
    """Return camera ``index``; neighbours in number differ in place and main view."""
    red, green, blue = (float(value) for value in rng.uniform(0.72, 1.28, size=3))
    return Camera(
        place=PLACES[index % len(PLACES)],
        wall=choose(rng, _WALLS),
        view=VIEWS[index % len(VIEWS)],
        gain=(red, green, blue),
        gamma=float(rng.uniform(0.75, 1.4)),
        contrast=float(rng.uniform(0.7, 1.1)),
        occlusion=float(rng.uniform(0.08, 0.24)),
        blur=float(rng.uniform(0.1, 0.35)),
        noise=float(rng.uniform(2.0, 6.0)),
    )


def photograph(
    look: Appearance | None,
    camera: Camera,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    cropped: bool = False,
) -> Image.Image:
    """Return a picture (RGB, ``height`` x ``width`` pixels) of a person, or of the place alone.

    ``cropped`` gives a bad detection: too near, and cut off by the frame.
    """
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    image = draw_place(camera, rng, size)
    view = camera.view if rng.random() < PREFERRED_VIEW else choose(rng, VIEWS)
    phase = float(rng.uniform(0, math.tau))
    scale, right, down = rng.uniform(0.74, 1.0), rng.uniform(-0.12, 0.12), rng.uniform(0.92, 1.02)
    if cropped:
        scale, right, down = rng.uniform(1.6, 2.6), rng.uniform(-0.6, 0.6), rng.uniform(0.8, 2.4)
    if look is not None:
        foot = (size[0] * (0.5 + right), size[1] * down)
        draw_person(image, look, view=view, phase=phase, foot=foot, unit=size[1] * scale)
    if rng.random() < camera.occlusion:
        draw_occluder(image, choose(rng, OCCLUDERS), rng)
    return expose(image.reduce(SUPERSAMPLING), camera, rng)


def draw_place(camera: Camera, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return the camera's background, a little different in every shot."""
    width, height = size
    horizon = round(height * rng.uniform(0.38, 0.62))
    ground: Colour = {"park": (92, 120, 64), "plaza": (172, 164, 150)}.get(
        camera.place, (112, 112, 114)
    )
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, horizon), fill=camera.wall)
    if camera.place in ("street", "car park"):
        _street(draw, rng, width, height, horizon)
    elif camera.place == "park":
        _trees(draw, rng, width, horizon)
    elif camera.place == "wall":
        _bricks(draw, rng, width, horizon, camera.wall)
    else:
        _windows(draw, rng, width, horizon)
    if camera.place in ("plaza", "wall"):
        _tiles(draw, rng, width, height, horizon)
    if camera.place == "car park" or rng.random() < 0.25:
        _car(draw, rng, width, height, horizon)
    if rng.random() < 0.3:
        x = round(width * rng.uniform(-0.05, 1.0))
        draw.rectangle((x, 0, x + width * 0.07, horizon + height * 0.1), fill=choose(rng, _CARS))
    return _textured(image, rng)


def _textured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the image under uneven light: coarse and fine noise, alike in all channels."""
    width, height = image.size
    coarse = Image.fromarray(rng.integers(96, 160, size=(6, 4), dtype=np.uint8))
    fine = Image.fromarray(rng.integers(112, 144, size=(height // 3, width // 3), dtype=np.uint8))
    light = np.asarray(coarse.resize(image.size, Image.Resampling.BICUBIC), dtype=np.float32)
    light = light + np.asarray(fine.resize(image.size, Image.Resampling.NEAREST)) - 128
    lit = np.asarray(image, dtype=np.float32) * (light[:, :, None] / 128)
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def _street(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int
) -> None:
    kerb = horizon + round(height * rng.uniform(0.05, 0.15))
    draw.rectangle((0, horizon, width, kerb), fill=(156, 152, 146))
    draw.line((0, kerb, width, kerb), fill=(84, 84, 84), width=max(1, height // 60))
    x, y = width * rng.uniform(-0.3, 0.8), height * rng.uniform(0.75, 0.95)
    mark = [(x, y), (x + width * 0.5, y), (x + width * 0.45, y + height * 0.03)]
    draw.polygon([*mark, (x - width * 0.05, y + height * 0.03)], fill=(206, 206, 196))


def _trees(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: int) -> None:
    draw.rectangle((0, 0, width, horizon), fill=(136, 156, 158))
    for _ in range(5):
        x, radius = width * rng.uniform(0, 1), width * rng.uniform(0.15, 0.4)
        y = horizon * rng.uniform(0.2, 0.75)
        draw.rectangle((x - width * 0.03, y, x + width * 0.03, horizon), fill=(84, 62, 44))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=choose(rng, _GREENS))


def _bricks(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: int, wall: Colour
) -> None:
    joint = (wall[0] - 34, wall[1] - 34, wall[2] - 34)
    step = width / 6
    start = step * rng.uniform(0, 1)
    for row in range(math.ceil(horizon / (step / 2))):
        y = row * step / 2
        draw.line((0, y, width, y), fill=joint, width=max(1, width // 64))
        for column in range(-1, 7):
            x = start + (column + row % 2 / 2) * step
            draw.line((x, y, x, y + step / 2), fill=joint, width=max(1, width // 64))


def _windows(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, horizon: int) -> None:
    start, step = width * rng.uniform(-0.5, 0), width * rng.uniform(0.45, 0.6)
    for column in range(4):
        x = start + column * step
        glass = choose(rng, ((74, 92, 110), (120, 140, 150), (214, 204, 160)))
        box = (x, horizon * 0.1, x + step * 0.78, horizon * 0.85)
        draw.rectangle(box, fill=glass, outline=(60, 52, 46), width=max(1, width // 40))


def _tiles(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int
) -> None:
    centre = width * rng.uniform(0.2, 0.8)
    for i in range(-4, 5):
        draw.line(
            (centre, horizon - height * 0.2, centre + i * width * 0.5, height), (134, 128, 120)
        )
    for i in range(1, 6):
        y = horizon + (height - horizon) * (i / 5) ** 2
        draw.line((0, y, width, y), fill=(134, 128, 120), width=max(1, height // 100))
    draw.line((0, horizon, width, horizon), fill=(90, 86, 82), width=max(1, height // 60))


def _car(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, horizon: int
) -> None:
    x, y, colour = width * rng.uniform(-0.5, 0.7), horizon + height * 0.06, choose(rng, _CARS)
    length, tall = width * 0.95, height * 0.1
    draw.rectangle((x, y - tall, x + length, y), fill=colour)
    roof = (x + length * 0.2, y - 1.8 * tall, x + length * 0.8, y - tall)
    draw.rectangle(roof, fill=(70, 82, 92), outline=colour, width=max(1, height // 60))
    for wheel in (0.22, 0.78):
        centre, radius = x + length * wheel, tall * 0.45
        box = (centre - radius, y - radius, centre + radius, y + radius)
        draw.ellipse(box, fill=(30, 30, 32))


def draw_occluder(image: Image.Image, kind: str, rng: np.random.Generator) -> None:
    """Paint one of OCCLUDERS over the picture."""
    draw, (width, height) = ImageDraw.Draw(image), image.size
    if kind == "post":
        x, thick = width * rng.uniform(0.15, 0.8), width * rng.uniform(0.08, 0.16)
        draw.rectangle((x, 0, x + thick, height), fill=choose(rng, _WALLS))
    elif kind == "bench":
        top, colour = height * rng.uniform(0.62, 0.74), choose(rng, ((104, 74, 48), (70, 76, 80)))
        for slat in range(3):
            y = top + slat * height * 0.055
            draw.rectangle((0, y, width, y + height * 0.036), fill=colour)
        for x in (0.1, 0.85):
            draw.rectangle((width * x, top, width * (x + 0.06), height), fill=colour)
    elif kind == "bush":
        top = rng.uniform(0.66, 0.84)
        for _ in range(9):
            x, y = width * rng.uniform(0, 1), height * rng.uniform(top, 1.02)
            radius = width * rng.uniform(0.16, 0.3)
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius), fill=choose(rng, _GREENS)
            )
    else:
        x = width * (0.5 + choose(rng, (-1, 1)) * rng.uniform(0.36, 0.5))
        foot, phase = (x, height * rng.uniform(1.0, 1.1)), rng.uniform(0, math.tau)
        other, view = draw_appearance(rng, draw_colours(rng)), choose(rng, VIEWS)
        draw_person(image, other, view=view, phase=phase, foot=foot, unit=height)


def expose(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Return the picture as the camera records it: blur, colour cast, contrast, gamma and noise.

    Brightness and cast differ a little from shot to shot, and brightness across the picture.
    """
    radius = camera.blur * rng.uniform(0.5, 1.5) * image.height / 64
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
    gain = np.array(camera.gain, dtype=np.float32) * rng.uniform(0.9, 1.1, size=3)
    corners = Image.fromarray(rng.integers(90, 150, size=(2, 2), dtype=np.uint8))
    light = np.asarray(corners.resize(image.size, Image.Resampling.BILINEAR), dtype=np.float32)
    lit = pixels * gain * (light * _shadow(image.size, rng) / 120)[:, :, None]
    contrast, gamma = camera.contrast * rng.uniform(0.9, 1.1), camera.gamma * rng.uniform(0.9, 1.1)
    toned = ((lit - 0.45) * contrast + 0.45).clip(0, 1) ** gamma
    noisy = toned * 255 + rng.normal(0, camera.noise, size=toned.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _shadow(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return light (height x width, up to 1) that in half of all shots ends at a slanted edge."""
    width, height = size
    x, y = np.linspace(-0.5, 0.5, width), np.linspace(-1, 1, height)[:, None]
    angle, offset, dark = rng.uniform(0, math.tau), rng.uniform(-0.4, 0.9), rng.uniform(0.45, 0.75)
    depth = (x * math.cos(angle) + y * math.sin(angle) - offset) * 12
    dark = dark if rng.random() < 0.5 else 1.0
    return (1 - (1 - dark) * depth.clip(0, 1)).astype(np.float32)
