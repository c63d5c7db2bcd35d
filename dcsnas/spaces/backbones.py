"""Backbones: fixed networks that attention can be put into, by name.

What a backbone is made of needs torch and its library, so it is asked of a registered object when
it is wanted. A name is looked for among single backbones first, then in libraries of many.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple, Protocol

from dcsnas.config.errors import UserError
from dcsnas.config.plugins import load_installed
from dcsnas.spaces.units import Cost, Held, TrunkMemory

Size = tuple[int, int]


class Place(NamedTuple):
    """Where a layer runs in a network."""

    size: Size
    """(height, width) of its input."""
    held: Callable[[], Held] = Held
    """Returns what it finds there; in a backbone that takes a run for shapes."""


NOWHERE = Place((0, 0))
"""Of a layer by itself."""


@dataclass(frozen=True)
class StageEnd:
    """The end of a stage, where attention may follow: a module's name and its output's channels.

    ``reduction`` is the input's height over the map's at the natural output stride.
    """

    module: str
    channels: int
    reduction: int


@dataclass(frozen=True)
class FeaturePart:
    """One of several vectors that a network's features consist of, as those of its branches.

    Each has a head and a loss of its own. Images are compared by all of them side by side.
    """

    length: int
    loss_weight: float = 1.0
    """Of its loss in the sum over the parts."""
    unit: bool = False
    """Whether it is brought to unit length where images are compared."""
    scale: float = 1.0
    """What it is then multiplied by."""


class Backbone(Protocol):
    """A network without a classifier: images [B, 3, H, W] to features [B, D].

    ``output_stride`` is the input's height over that of the last map. A stride below the natural
    one takes strides out of the last stage; nothing is dilated. One whose features consist of
    several vectors also has ``feature_parts``, a tuple of FeaturePart.
    """

    name: str
    """What it is registered as."""
    feature_dim: int
    """Length of the feature vector."""
    output_strides: tuple[int, ...]
    """Those that it can run at, the natural one first."""
    stage_ends: tuple[StageEnd, ...]
    """The places for attention, in order."""

    @property
    def layout(self) -> Literal["NCHW", "NHWC", "NLC"]:
        """Return that of the maps at the stage ends; an attribute will do.

        ``NLC``: a transformer, whose "stage ends" are its attention modules with a place for a
        selection (``select``; see ``nn.attention.tokens``), and whose "map sizes" are (tokens, 1).
        """
        ...

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return (height, width) of the map at each stage end for an input of ``size``."""
        ...

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return parameters, and MACs and activations for one image of ``size``."""
        ...

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds while it runs on one image of ``size``."""
        ...

    def create(self, output_stride: int) -> Any:
        """Return the network as a torch module with fresh weights."""
        ...

    def pretrained(self) -> Mapping[str, Any]:
        """Return the weights that its authors publish; raises UserError where there are none."""
        ...


def feature_parts(backbone: Backbone) -> tuple[FeaturePart, ...]:
    """Return the vectors that the features of ``backbone`` consist of, in order: mostly one."""
    return getattr(backbone, "feature_parts", (FeaturePart(backbone.feature_dim),))


def stage_places(backbone: Backbone, output_stride: int, size: Size) -> tuple[Place, ...]:
    """Return where attention runs in ``backbone`` for an input of (height, width) ``size``."""

    def held(index: int) -> Held:
        return backbone.memory(output_stride, size).ends[index]

    sizes = backbone.map_sizes(output_stride, size)
    return tuple(Place(one, partial(held, index)) for index, one in enumerate(sizes))


@dataclass(frozen=True)
class Library:
    """Many backbones: the names that it lists, and the backbone of any name that it knows.

    ``get`` returns None for a name that is not the library's, and raises UserError with the reason
    for one that cannot be adapted.
    """

    names: Callable[[], Sequence[str]]
    get: Callable[[str], Backbone | None]


BACKBONES: dict[str, Callable[[], Backbone]] = {}
LIBRARIES: dict[str, Library] = {}


def register_backbone(name: str, make: Callable[[], Backbone]) -> None:
    """Add a single backbone; ``make`` is called when it is first asked for."""
    BACKBONES[name] = make


def backbone_names() -> list[str]:
    """Return the names of all backbones, sorted; raises UserError where a library is missing."""
    load_installed()
    return sorted({*BACKBONES, *(n for library in LIBRARIES.values() for n in library.names())})


@cache
def find_backbone(name: str) -> Backbone:
    """Return the backbone called ``name``; raises UserError with the nearest names for another."""
    if name not in BACKBONES:
        load_installed()
    if name in BACKBONES:
        return BACKBONES[name]()
    refused: UserError | None = None
    for library in LIBRARIES.values():
        try:
            if found := library.get(name):
                return found
        except UserError as error:  # the name may be another library's
            refused = refused or error
    if refused:
        raise refused
    known = backbone_names()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {len(known):,} names"
    raise UserError(
        f"no backbone called '{name}'; {hint} (dcsnas spaces --backbones TEXT lists them)"
    )
