"""Pictures of what a detector finds: boxes, masks, categories and scores drawn on the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from dcsnas.config.files import replacing
from dcsnas.data.decoding import decode_rgb
from dcsnas.detection.cascade import Detection
from dcsnas.detection.loading import DetectionItem, collate_detection, scaled_size
from dcsnas.detection.scoring import normalised, on_original
from dcsnas.detection.weights import LoadedDetector
from dcsnas.nn.distributed import pick_device

COLOURS = (
    (230, 80, 60), (60, 170, 90), (70, 120, 230), (235, 190, 50), (190, 80, 200), (60, 190, 200),
)  # fmt: skip
"""Of categories, in turn."""
OPACITY = 0.4
SMALLEST = 480
"""Shorter side of a picture in pixels; smaller images are enlarged by a whole factor."""


@torch.no_grad()
def detect_file(used: LoadedDetector, path: Path, *, device: str = "auto") -> Detection:
    """Return what is found on an image file, in its own pixels, with masks bool [N, H, W].

    Raises UserError where the file is no image.
    """
    place, header = pick_device(device), used.header
    image = decode_rgb(path)
    original = image.height, image.width
    size = scaled_size(original, header.sides)
    scaled = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *size).byte()
    batch = collate_detection([DetectionItem(pixels, *nothing, 0)])
    images = normalised(batch, header.data(path.parent, "", 0), place)
    found: Any = used.network.to(place).eval()(images, [size])
    return on_original(found[0], size, original)


def draw_detections(
    path: Path, found: Detection, categories: Sequence[tuple[int, str]], *, least: float
) -> Image.Image:
    """Return an image with the detections on it whose score is at least ``least``."""
    image = decode_rgb(path)
    factor = max(1, -(-SMALLEST // min(image.size)))
    pixels = np.array(image, dtype=np.float32)
    shown = [index for index, score in enumerate(found.scores.tolist()) if score >= least]
    for index in reversed(shown):  # the best last, on top
        mask, colour = found.masks[index].numpy().astype(bool), _colour(found, index)
        pixels[mask] = (1 - OPACITY) * pixels[mask] + OPACITY * np.array(colour, dtype=np.float32)
    picture = Image.fromarray(pixels.astype(np.uint8))
    picture = picture.resize((factor * image.width, factor * image.height))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for index in reversed(shown):
        left, top, right, bottom = (factor * side for side in found.boxes[index].tolist())
        colour = _colour(found, index)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
        text = f"{categories[int(found.labels[index]) - 1][1]} {100 * found.scores[index]:.0f}"
        place = left + 2, max(0.0, top - 16)
        draw.rectangle(draw.textbbox(place, text, font=font), fill=colour)
        draw.text(place, text, fill=(255, 255, 255), font=font)
    return picture


def _colour(found: Detection, index: int) -> tuple[int, int, int]:
    return COLOURS[(int(found.labels[index]) - 1) % len(COLOURS)]


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, atomically."""
    with replacing(path) as partial:
        picture.save(partial, format="PNG")
