"""A brush in figure coordinates, and patterned cloth to paint with.

Figure coordinates: x to the right of the body's axis, y down from the crown of the head (0) to
the soles (1), both in body heights.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Fill = Colour | Image.Image
Point = tuple[float, float]

PATTERNS = ("plain", "horizontal", "vertical", "checks", "dots", "diagonal", "block", "logo")


def shaded(fill: Fill, factor: float) -> Fill:
    """Return ``fill`` (a colour, or a cloth as large as the canvas) darkened by ``factor``."""
    table = [min(255, round(value * factor)) for value in range(256)]
    if isinstance(fill, Image.Image):
        return fill.point(table * 3)
    red, green, blue = fill
    return table[red], table[green], table[blue]


def along(start: Point, end: Point, fraction: float) -> Point:
    """Return the point at ``fraction`` of the way from ``start`` to ``end``."""
    (x0, y0), (x1, y1) = start, end
    return x0 + (x1 - x0) * fraction, y0 + (y1 - y0) * fraction


@dataclass(frozen=True)
class Brush:
    """Paints on ``image``; figure point (0, 0) lies at ``origin``, ``unit`` pixels are one height.

    ``direction`` is -1 where the picture is mirrored left to right, otherwise 1.
    """

    image: Image.Image
    origin: Point
    unit: float
    direction: int = 1

    def pixel(self, point: Point) -> Point:
        """Return a figure point in pixels."""
        x = self.origin[0] + self.direction * self.unit * point[0]
        return x, self.origin[1] + self.unit * point[1]

    def polygon(self, points: Sequence[Point], fill: Fill) -> None:
        """Fill the polygon through ``points``."""
        self._paint([("polygon", [self.pixel(point) for point in points])], fill)

    def disc(self, centre: Point, radii: Point, fill: Fill) -> None:
        """Fill the ellipse around ``centre``."""
        self._paint([self._ellipse(centre, radii)], fill)

    def box(self, centre: Point, size: Point, fill: Fill) -> None:
        """Fill the rectangle of ``size`` around ``centre``."""
        (x, y), (width, height) = centre, size
        left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def limb(self, joints: Sequence[Point], widths: Sequence[float], fill: Fill) -> None:
        """Fill a chain of rounded, tapering segments through ``joints``, one width per joint."""
        shapes = [
            self._ellipse(joint, (width / 2, width / 2))
            for joint, width in zip(joints, widths, strict=True)
        ]
        for i in range(len(joints) - 1):
            (x0, y0), (x1, y1) = joints[i], joints[i + 1]
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            a, b = widths[i] / 2, widths[i + 1] / 2
            corners = [
                (x0 + a * nx, y0 + a * ny),
                (x1 + b * nx, y1 + b * ny),
                (x1 - b * nx, y1 - b * ny),
                (x0 - a * nx, y0 - a * ny),
            ]
            shapes.append(("polygon", [self.pixel(corner) for corner in corners]))
        self._paint(shapes, fill)

    def _ellipse(self, centre: Point, radii: Point) -> tuple[str, list[Point]]:
        x, y = self.pixel(centre)
        width, height = radii[0] * self.unit, radii[1] * self.unit
        return "ellipse", [(x - width, y - height), (x + width, y + height)]

    def _paint(self, shapes: Sequence[tuple[str, list[Point]]], fill: Fill) -> None:
        if not isinstance(fill, Image.Image):
            draw = ImageDraw.Draw(self.image)
            for name, points in shapes:
                getattr(draw, name)(points, fill=fill)
            return
        mask = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(mask)
        for name, points in shapes:
            getattr(draw, name)(points, fill=255)
        self.image.paste(fill, mask=mask)


def cloth(brush: Brush, pattern: str, colours: tuple[Colour, Colour], *, front: bool) -> Fill:
    """Return a cloth in ``pattern`` that lies on the figure which ``brush`` paints.

    A print ("logo") is on the chest only, seen from the front; a diagonal runs the other way seen
    from behind, as on a real garment. "plain" needs no picture and is the first colour itself.
    """
    base, second = colours
    if pattern == "plain" or (pattern == "logo" and not front):
        return base
    image = Image.new("RGB", brush.image.size, base)
    paint = Brush(image, brush.origin, brush.unit, brush.direction)
    steps = range(-3, 4)
    if pattern == "horizontal":
        for row in range(11):
            paint.box((0, 0.19 + 0.075 * row), (0.8, 0.036), second)
    elif pattern == "vertical":
        for column in steps:
            paint.box((0.07 * column, 0.5), (0.033, 1), second)
    elif pattern == "checks":
        for row in range(16):
            for column in steps:
                x = 0.1 * column + 0.05 * (row % 2)
                paint.box((x, 0.17 + 0.05 * row), (0.05, 0.05), second)
    elif pattern == "dots":
        for row in range(13):
            for column in steps:
                x = 0.088 * column + 0.044 * (row % 2)
                paint.disc((x, 0.2 + 0.06 * row), (0.019, 0.019), second)
    elif pattern == "diagonal":
        slope = 0.3 if front else -0.3
        for row in range(-3, 9):
            y = 0.12 * row
            corners = [(-0.5, y - slope), (0.5, y + slope), (0.5, y + slope + 0.06)]
            paint.polygon([*corners, (-0.5, y - slope + 0.06)], second)
    elif pattern == "block":
        paint.box((0, 0.84), (1, 1), second)
    elif pattern == "logo":
        paint.box((0, 0.29), (0.1, 0.085), second)
    return image
