"""The picture of one person: four views at any walking phase, painted from back to front."""

import math
from dataclasses import dataclass

from PIL import Image

from dcsnas.data.drawn.appearance import HAIR, Appearance
from dcsnas.data.drawn.paint import Brush, Fill, Point, along, cloth, shaded

VIEWS = ("front", "back", "left", "right")  # the side of the person that the camera sees

Limb = tuple[Point, Point, Point]  # hip, knee, ankle or shoulder, elbow, wrist


def draw_person(
    image: Image.Image, look: Appearance, *, view: str, phase: float, foot: Point, unit: float
) -> None:
    """Paint the person on ``image``.

    ``view`` is one of VIEWS, ``phase`` the walking phase in radians, ``foot`` the pixel between
    the feet and ``unit`` the pixels of a person of height 1.
    """
    size = unit * look.height
    brush = Brush(image, (foot[0], foot[1] - size), size, -1 if view == "left" else 1)
    lower_pattern = "plain" if look.lower_pattern == "seam" else look.lower_pattern
    upper = cloth(brush, look.upper_pattern, look.colours.upper, front=view == "front")
    lower = cloth(brush, lower_pattern, look.colours.lower, front=view == "front")
    person = _Person(brush, look, upper, lower, math.sin(phase))
    if view in ("front", "back"):
        _draw_facing(person, back=view == "back")
    else:
        _draw_profile(person, near=1 if view == "left" else -1)


@dataclass(frozen=True)
class _Person:
    """The parts that all views share; ``swing`` in [-1, 1] is the position within a step."""

    brush: Brush
    look: Appearance
    upper: Fill
    lower: Fill
    swing: float

    @property
    def hem(self) -> float:
        return 0.66 if self.look.upper == "coat" else 0.52

    def leg(self, joints: Limb, *, toe: float, shade: float) -> None:
        """Paint a leg, what covers it and a shoe of length ``toe``."""
        hip, knee, ankle = joints
        brush, look, width = self.brush, self.look, 0.4 + 0.6 * self.look.build
        brush.limb(joints, (0.075 * width, 0.055 * width, 0.036), shaded(look.colours.skin, shade))
        if look.lower in ("trousers", "shorts"):
            covered = joints if look.lower == "trousers" else (hip, along(hip, knee, 0.85))
            widths = (0.1 * width, 0.082 * width, 0.062)[: len(covered)]
            brush.limb(covered, widths, shaded(self.lower, shade))
            if look.lower_pattern == "seam":
                brush.limb(covered, (0.028,) * len(covered), shaded(look.colours.lower[1], shade))
        shoe = shaded(look.colours.shoes, shade)
        x, y = ankle
        brush.limb(((x, y + 0.025), (x + toe, y + 0.03)), (0.048, 0.04), shoe)
        if look.boots:
            brush.limb((along(ankle, knee, 0.45), ankle), (0.068, 0.056), shoe)

    def arm(self, joints: Limb, *, shade: float) -> None:
        """Paint an arm with the sleeve of the upper garment."""
        shoulder, elbow, wrist = joints
        brush, look, width = self.brush, self.look, 0.5 + 0.5 * self.look.build
        skin = shaded(look.colours.skin, shade)
        sleeve = shaded(look.colours.upper[1] if look.contrast_sleeves else self.upper, shade)
        brush.limb(joints, (0.056 * width, 0.046 * width, 0.034), skin)
        if look.upper == "tee":
            short = (shoulder, along(shoulder, elbow, 0.75))
            brush.limb(short, (0.072 * width, 0.074 * width), sleeve)
        elif look.upper != "vest":
            brush.limb(joints, (0.076 * width, 0.064 * width, 0.05), sleeve)
        brush.disc(wrist, (0.021, 0.025), skin)

    def skirt(self, top: float, bottom: float) -> None:
        """Paint the skirt, if it is one, from half width ``top`` at the waist to ``bottom``."""
        end = {"skirt": 0.72, "long skirt": 0.9}.get(self.look.lower)
        if end is not None:
            corners = [(-top, 0.46), (top, 0.46), (bottom, end), (-bottom, end)]
            self.brush.polygon(corners, self.lower)

    def head(self, side: str) -> None:
        """Paint neck, head, hair and eyes as seen from the "front", "back" or "side"."""
        brush, look = self.brush, self.look
        brush.limb(((0, 0.1), (0, 0.17)), (0.05, 0.056), shaded(look.colours.skin, 0.8))
        brush.disc((0, 0.075), (0.052, 0.07), look.colours.skin)
        if side == "side":
            brush.disc((0.052, 0.085), (0.012, 0.012), look.colours.skin)
        eyes = {"front": (-0.02, 0.02), "side": (0.03,)}.get(side, ())
        for x in eyes:
            brush.disc((x, 0.078), (0.007, 0.008), (40, 34, 34))
        style = "short" if look.hair == "cap" else look.hair
        for x, y, width, height in HAIR[style][side]:
            brush.disc((x, y), (width, height), look.colours.hair)
        if look.hair == "cap":
            cap = look.colours.bag
            brush.disc((0, 0.026), (0.06, 0.04), cap)
            peak = {"front": 0.0, "side": 0.06}.get(side)
            if peak is not None:
                brush.box((peak, 0.054), (0.1, 0.02), shaded(cap, 0.65))

    def shoulder_bag(self, hip: Point, shoulder: Point) -> None:
        """Paint a bag at the hip on a strap that crosses the body from the other shoulder."""
        brush, colour = self.brush, self.look.colours.bag
        brush.limb((shoulder, hip), (0.026, 0.026), shaded(colour, 0.75))
        brush.box((hip[0], hip[1] + 0.03), (0.125, 0.1), colour)
        brush.box((hip[0], hip[1] + 0.005), (0.125, 0.03), shaded(colour, 0.7))

    def handbag(self, wrist: Point) -> None:
        """Paint a bag that hangs from the hand."""
        brush, colour, (x, y) = self.brush, self.look.colours.bag, wrist
        handles = ((x - 0.035, y + 0.09), (x, y + 0.01), (x + 0.035, y + 0.09))
        brush.limb(handles, (0.014, 0.014, 0.014), shaded(colour, 0.75))
        brush.box((x, y + 0.125), (0.12, 0.09), colour)


def _draw_facing(person: _Person, *, back: bool) -> None:
    """Paint the front or back view; the person's left is at the right of a front view."""
    brush, look, swing = person.brush, person.look, person.swing
    wide, bag_side = 0.11 * look.build, -look.side if back else look.side
    if look.bag == "backpack" and not back:
        brush.box((0, 0.32), (2.4 * wide, 0.24), shaded(look.colours.bag, 0.7))
    for side in (-1, 1):
        raised = 0.055 * max(0.0, side * swing)
        knee, ankle = (side * 0.053, 0.72 - raised / 2), (side * 0.055, 0.945 - raised)
        person.leg(((side * 0.046 * look.build, 0.5), knee, ankle), toe=0.014 * side, shade=0.94)
    person.skirt(0.85 * wide, 1.3 * wide)
    for side in (-1, 1):
        lift = 0.025 * side * swing
        shoulder, elbow = (side * (wide + 0.004), 0.202), (side * (wide + 0.034), 0.335 + lift)
        wrist = side * (wide + 0.04), 0.48 + 2 * lift
        person.arm((shoulder, elbow, wrist), shade=0.84)
        if look.bag == "handbag" and side == bag_side:
            person.handbag(wrist)
    _facing_torso(person, wide, back=back)
    person.head("back" if back else "front")
    if look.bag == "shoulder bag":
        person.shoulder_bag((bag_side * wide, 0.48), (-bag_side * 0.07, 0.17))
    elif look.bag == "backpack" and back:
        brush.disc((0, 0.22), (0.09, 0.045), look.colours.bag)
        brush.box((0, 0.33), (0.18, 0.22), look.colours.bag)
        brush.box((0, 0.38), (0.12, 0.075), shaded(look.colours.bag, 0.7))
    elif look.bag == "backpack":
        for side in (-1, 1):
            strap = ((side * 0.068, 0.17), (side * 0.076, 0.38))
            brush.limb(strap, (0.028, 0.028), shaded(look.colours.bag, 0.8))


def _facing_torso(person: _Person, wide: float, *, back: bool) -> None:
    brush, look, hem = person.brush, person.look, person.hem
    base, second = look.colours.upper
    skirted = (1.12 if look.upper == "coat" else 0.94) * wide
    right = [(0.03, 0.156), (wide + 0.008, 0.184), (0.88 * wide, 0.37), (skirted, hem)]
    brush.polygon([*right, *((-x, y) for x, y in reversed(right))], person.upper)
    if look.upper == "vest":
        brush.disc((0, 0.165), (0.042, 0.03), shaded(look.colours.skin, 0.9))
    elif look.upper == "hoodie":
        dark = shaded(base, 0.7)
        if back:
            brush.disc((0, 0.19), (0.085, 0.055), dark)
        else:
            brush.disc((0, 0.165), (0.085, 0.025), dark)
            brush.box((0, 0.455), (0.12, 0.055), dark)
    elif look.upper == "jacket" and not back:
        brush.polygon([(-0.036, 0.156), (0.036, 0.156), (0.026, hem), (-0.026, hem)], second)
    elif look.upper == "coat":
        brush.box((0, 0.42), (1.8 * wide, 0.03), shaded(base, 0.55))


def _draw_profile(person: _Person, *, near: int) -> None:
    """Paint a side view that walks to the right; ``near`` is the side towards the camera."""
    brush, look, swing = person.brush, person.look, person.swing
    deep = 0.076 * look.build
    arms = {
        side: _swung((-0.005, 0.205), 0.15, -0.55 * side * swing, bend=0.35) for side in (-1, 1)
    }
    step = 0.25 if look.lower == "long skirt" else 0.42
    legs = {side: _stride(step * side * swing) for side in (-1, 1)}
    bag_near = look.side == near
    person.arm(arms[-1], shade=0.62)
    if look.bag == "handbag" and not bag_near:
        person.handbag(arms[-1][2])
    person.leg(legs[-1], toe=0.055, shade=0.72)
    person.leg(legs[1], toe=0.055, shade=1.0)
    person.skirt(0.9 * deep, 1.35 * deep + 0.03 * abs(swing))
    if look.bag == "backpack":
        brush.limb(((-deep - 0.035, 0.25), (-deep - 0.04, 0.4)), (0.1, 0.11), look.colours.bag)
        brush.box((-deep - 0.075, 0.38), (0.035, 0.08), shaded(look.colours.bag, 0.7))
    _profile_torso(person, deep)
    if look.bag == "shoulder bag" and not bag_near:
        brush.limb(((-0.04, 0.165), (0.02, 0.17)), (0.024, 0.024), shaded(look.colours.bag, 0.75))
    person.head("side")
    if look.bag == "shoulder bag" and bag_near:
        person.shoulder_bag((-0.01, 0.48), (0.01, 0.17))
    elif look.bag == "backpack":
        strap = ((0.025, 0.17), (0.045, 0.29), (-0.03, 0.37))
        brush.limb(strap, (0.024, 0.024, 0.024), shaded(look.colours.bag, 0.8))
    person.arm(arms[1], shade=0.86)
    if look.bag == "handbag" and bag_near:
        person.handbag(arms[1][2])


def _profile_torso(person: _Person, deep: float) -> None:
    brush, look, hem = person.brush, person.look, person.hem
    base, second = look.colours.upper
    skirted = (1.3 if look.upper == "coat" else 1.02) * deep
    front = [(0.026, 0.156), (deep, 0.24), (0.92 * deep, 0.38), (skirted, hem)]
    rear = [(-skirted, hem), (-0.95 * deep, 0.38), (-deep, 0.22), (-0.034, 0.156)]
    brush.polygon([*front, *rear], person.upper)
    if look.upper == "hoodie":
        brush.disc((-0.05, 0.175), (0.05, 0.04), shaded(base, 0.7))
    elif look.upper == "jacket":
        edge = [(0.012, 0.156), (0.026, 0.156), (deep, 0.24), (skirted, hem), (0.6 * deep, hem)]
        brush.polygon(edge, second)
    elif look.upper == "coat":
        brush.box((0, 0.42), (1.9 * deep, 0.03), shaded(base, 0.55))


def _swung(start: Point, length: float, angle: float, *, bend: float) -> Limb:
    """Return a limb of two segments that hangs from ``start`` at ``angle`` (radians, forwards)."""
    middle = start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)
    end = middle[0] + length * math.sin(angle + bend), middle[1] + length * math.cos(angle + bend)
    return start, middle, end


def _stride(angle: float) -> Limb:
    """Return a leg at ``angle``; the leg behind bends its knee."""
    return _swung((0.0, 0.5), 0.225, angle, bend=-0.15 - 0.5 * max(0.0, -angle))
