"""What a drawn pedestrian looks like: a random combination of clothes, hair and bag.

Colours come from one small palette, so they repeat across people; an identity is told by the
combination and by where things are: cut, pattern, hair and bag.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dcsnas.data.drawn.paint import PATTERNS, Colour

T = TypeVar("T")

UPPERS = ("tee", "long sleeve", "jacket", "hoodie", "vest", "coat")
LOWERS = ("trousers", "shorts", "skirt", "long skirt")
LOWER_PATTERNS = ("plain", "plain", "plain", "seam", "horizontal", "checks")
BAGS = ("none", "backpack", "shoulder bag", "handbag")

CLOTHES: tuple[Colour, ...] = (
    (38, 38, 46),
    (225, 222, 214),
    (176, 48, 50),
    (52, 82, 158),
    (62, 122, 74),
    (206, 170, 70),
)
HAIR_COLOURS: tuple[Colour, ...] = ((30, 26, 26), (92, 60, 36), (196, 158, 90), (150, 150, 152))
SKINS: tuple[Colour, ...] = ((236, 198, 170), (202, 154, 118), (146, 100, 72), (92, 62, 48))

Ellipse = tuple[float, float, float, float]  # centre x, y and radii in body heights
_TOP: Ellipse = (0, 0.028, 0.057, 0.036)
_NAPE: Ellipse = (0, 0.066, 0.057, 0.069)
_CROWN: tuple[Ellipse, ...] = ((-0.012, 0.036, 0.056, 0.044), (-0.034, 0.072, 0.032, 0.052))
HAIR: dict[str, dict[str, tuple[Ellipse, ...]]] = {  # "side" looks to the right
    "bald": {"front": (), "back": (), "side": ()},
    "short": {"front": (_TOP,), "back": (_NAPE,), "side": _CROWN},
    "bob": {
        "front": (_TOP, (-0.05, 0.09, 0.02, 0.06), (0.05, 0.09, 0.02, 0.06)),
        "back": (_NAPE, (0, 0.1, 0.07, 0.055)),
        "side": (*_CROWN, (-0.03, 0.1, 0.04, 0.055)),
    },
    "long": {
        "front": (_TOP, (-0.052, 0.13, 0.022, 0.11), (0.052, 0.13, 0.022, 0.11)),
        "back": (_NAPE, (0, 0.15, 0.075, 0.12)),
        "side": (*_CROWN, (-0.045, 0.15, 0.042, 0.11)),
    },
    "ponytail": {
        "front": (_TOP,),
        "back": (_NAPE, (0, 0.16, 0.026, 0.1)),
        "side": (*_CROWN, (-0.075, 0.07, 0.03, 0.02), (-0.092, 0.14, 0.022, 0.085)),
    },
    "bun": {
        "front": (_TOP, (0, -0.018, 0.034, 0.028)),
        "back": (_NAPE, (0, -0.014, 0.034, 0.03)),
        "side": (*_CROWN, (-0.04, -0.012, 0.034, 0.03)),
    },
    "afro": {
        "front": ((0, 0.022, 0.088, 0.054), (-0.07, 0.06, 0.022, 0.04), (0.07, 0.06, 0.022, 0.04)),
        "back": ((0, 0.05, 0.09, 0.085),),
        "side": ((-0.022, 0.026, 0.082, 0.058), (-0.045, 0.07, 0.056, 0.062)),
    },
}
HAIR_STYLES = (*HAIR, "cap")


@dataclass(frozen=True)
class Colours:
    """The colours of a person; look-alikes share them."""

    skin: Colour
    hair: Colour
    upper: tuple[Colour, Colour]
    lower: tuple[Colour, Colour]
    shoes: Colour
    bag: Colour


@dataclass(frozen=True)
class Appearance:
    """What makes a person recognisable; ``side`` is +1 for the person's left, -1 for the right."""

    colours: Colours
    height: float
    build: float
    hair: str
    upper: str
    upper_pattern: str
    contrast_sleeves: bool
    lower: str
    lower_pattern: str
    boots: bool
    bag: str
    side: int


def choose(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    """Return one of ``options``, each as likely."""
    return options[int(rng.integers(len(options)))]


def draw_colours(rng: np.random.Generator) -> Colours:
    """Return random colours of a person and their clothes."""
    return Colours(
        skin=choose(rng, SKINS),
        hair=choose(rng, HAIR_COLOURS),
        upper=_two_of_palette(rng),
        lower=_two_of_palette(rng),
        shoes=choose(rng, CLOTHES),
        bag=choose(rng, CLOTHES),
    )


def draw_appearance(
    rng: np.random.Generator,
    colours: Colours,
    *,
    upper_pattern: str | None = None,
    lower: str | None = None,
) -> Appearance:
    """Return a random person in ``colours``; upper pattern and lower garment can be given."""
    return Appearance(
        colours=colours,
        height=float(rng.uniform(0.88, 1.0)),
        build=float(rng.uniform(0.86, 1.22)),
        hair=choose(rng, HAIR_STYLES),
        upper=choose(rng, UPPERS),
        upper_pattern=upper_pattern or choose(rng, PATTERNS),
        contrast_sleeves=bool(rng.random() < 0.3),
        lower=lower or choose(rng, LOWERS),
        lower_pattern=choose(rng, LOWER_PATTERNS),
        boots=bool(rng.random() < 0.3),
        bag=choose(rng, BAGS),
        side=1 if rng.random() < 0.5 else -1,
    )


def _two_of_palette(rng: np.random.Generator) -> tuple[Colour, Colour]:
    first, second = rng.permutation(len(CLOTHES))[:2]
    return CLOTHES[first], CLOTHES[second]
