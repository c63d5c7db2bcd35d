"""Runs the network beside this file on images; needs onnxruntime, numpy and Pillow, no more.

python run.py a.jpg b.jpg                          with model.onnx
python run.py a.jpg b.jpg --model model.int8.onnx  what it loses and wins is in README.md
A network that compares images prints their cosines, a classifier the three likeliest classes.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("images", nargs="+")
parser.add_argument("--model", default=str(Path(__file__).with_name("model.onnx")))
given = parser.parse_args()
session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[2:]
facts = session.get_modelmeta().custom_metadata_map
crop = json.loads(facts.get("crop", "null"))


def seen(across, down):
    """Return what of a picture the network sees (left, top, right, bottom): all, or its centre."""
    if crop is None:
        return 0, 0, across, down
    columns, rows = (max(side, int(side / crop + 1e-9)) for side in (width, height))
    narrow = across * rows <= down * columns
    sides = (columns, columns * down / across) if narrow else (rows * across / down, rows)
    columns, rows = int(sides[0]), int(sides[1])
    left, top = round((columns - width) / 2), round((rows - height) / 2)
    x, y = across / columns, down / rows
    return left * x, top * y, (left + width) * x, (top + height) * y


def rgb(image):
    """Return a picture as RGB, whatever its file holds."""
    if image.mode.startswith("I;16"):  # grey of up to 16 bits, which Pillow would clip
        tags = getattr(image, "tag_v2", {})
        most = 2 ** tags.get(258, (16,))[0] - 1
        values = np.asarray(image).astype(np.uint32)
        values = most - values if tags.get(262) == 0 else values
        image = Image.fromarray(((255 * values + most // 2) // most).astype(np.uint8))
    if image.mode in ("I", "F", "LAB"):
        raise SystemExit(f"mode {image.mode}: save the image as .png with 8 or 16 bits a channel")
    return (image.convert("RGBA") if image.mode in ("P", "PA") else image).convert("RGB")


def pixels(file):
    """Return an image as the network takes it, uint8 [1, 3, height, width]."""
    with Image.open(file) as image:
        (across, down), (left, top, right, bottom) = image.size, seen(*image.size)
        # large JPEGs are decoded smaller, as in training
        least = 2 * width * across / (right - left), 2 * height * down / (bottom - top)
        image.draft(None, (int(np.ceil(least[0] - 1e-6)), int(np.ceil(least[1] - 1e-6))))
        picture = rgb(image)
    x, y = picture.width / across, picture.height / down
    box = left * x, top * y, min(right * x, picture.width), min(bottom * y, picture.height)
    small = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(small).transpose(2, 0, 1)[None]


outputs = [np.asarray(session.run(None, {"images": pixels(file)})[0]) for file in given.images]
found = np.concatenate(outputs)
if session.get_outputs()[0].name == "features":
    print(found @ found.T)
else:
    names = json.loads(facts.get("classes", "null")) or list(range(found.shape[1]))
    for file, row in zip(given.images, found):  # noqa: B905 - Python 3.8, too
        best = ", ".join(f"{names[n]} {100 * row[n]:.1f} %" for n in row.argsort()[::-1][:3])
        print(f"{file}: {best}")
