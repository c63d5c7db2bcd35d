"""Which tensors of a file belong to which of a network: by name, by a rule for names, by order."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.zoo.key_maps import AS_THEY_ARE, KEY_MAPS, KeyMap
from dcsnas.zoo.positions import resample_positions

State = Mapping[str, Tensor]

NOT_WEIGHTS = ("num_batches_tracked", "camera_embed.numbers")
"""A BatchNorm's step count, which old files lack and which no result depends on, and what the
cameras of an embedding are called: 1, 2 and so on."""
POSITIONS = "pos_embed"
CLASSIFIER = re.compile(
    r"(classifier(_global|_local)?(\.\d+)?|fc|head(\.fc)?|heads\.head|last_linear)\.(weight|bias)"
)
"""The names of classifiers in timm, torchvision and torchreid. Only a tensor that the network has
no place for is one: a backbone's own layer may have such a name."""
IN_ORDER = "by their order, since no name agrees"


@dataclass(frozen=True)
class Match:
    """Which tensors of a file belong to which of a network; step counts are named nowhere."""

    tensors: State
    """The file's tensors under the network's names, to be loaded with ``strict=False``."""
    used: tuple[str, ...]
    """Their names in the file."""
    left: tuple[str, ...]
    """The network's tensors that the file has none for: kept as initialised."""
    unused: tuple[str, ...]
    """The file's tensors that the network has no place for, a classifier's apart."""
    classifier: tuple[str, ...]
    """A classifier's, which is left out: another data set has other classes."""
    idle: tuple[str, ...]
    """Those that features do not depend on."""
    other_shapes: Mapping[str, str]
    """Those of ``left`` and ``unused`` that differ in nothing but their shapes, and how."""
    by: str
    """How they were matched, for people: a key of ``KEY_MAPS``, or in order."""

    @property
    def images(self) -> KeyMap:
        """Return what says how the file's images were normalised."""
        return KEY_MAPS.get(self.by, KEY_MAPS[AS_THEY_ARE])

    @property
    def whole(self) -> bool:
        """Return whether nothing but a classifier is missing on either side."""
        return not self.left and not self.unused

    @property
    def count(self) -> int:
        """Return how many tensors were matched."""
        return len(_weights(self.tensors))

    def counts(self) -> str:
        """Return how many tensors agree of how many, in words."""
        of_network = self.count + len(self.left)
        of_file = self.count + len(self.unused) + len(self.classifier) + len(self.idle)
        return (
            f"{self.count} of {of_network} tensors of the network agree with one of the {of_file} "
            "of the file"
        )

    def lines(self) -> list[str]:
        """Return what matched, what was left out and why."""
        classifier = f"left out as a classifier: {', '.join(self.classifier)}"
        idle = ", ".join(_collapsed(self.idle, self.used))
        return [
            f"{self.counts()}, matched {self.by}",
            *([classifier] if self.classifier else []),
            *([f"left out, since features do not depend on it: {idle}"] if idle else []),
            *self.missing(),
        ]

    def missing(self) -> list[str]:
        """Return what has no counterpart, whole modules in one."""
        left, unused = (
            [name for name in names if name not in self.other_shapes]
            for names in (self.left, self.unused)
        )
        groups = {
            "of another shape": list(dict.fromkeys(self.other_shapes.values())),
            "not in the file": _collapsed(left, self.tensors),
            "of the file, without a place in the network": _collapsed(unused, self.used),
        }
        return [f"{title}: {', '.join(names)}" for title, names in groups.items() if names]


def match(
    network: nn.Module, state: State, where: Path | str = "the weights", *, partial: bool = False
) -> Match:
    """Return which tensors of ``state`` belong to which of ``network``, changing neither.

    Raises UserError that begins with ``where`` for the weights of another network, and for those
    that agree in part with both lists, unless ``partial`` allows that.
    """
    wanted = network.state_dict()
    state = _resampled(network, wanted, state)
    found = max((_by_names(wanted, state, by) for by in KEY_MAPS), key=lambda one: one.count)
    if not found.whole:
        found = _in_order(wanted, state) or found
    if found.whole or (partial and found.count):
        return found
    if not found.count:
        ours, theirs = next(iter(wanted)), next(iter(state))
        raise UserError(
            f"{where}: weights of another network: {found.counts()}; {ours} {_text(wanted[ours])} "
            f"is not in the file, which begins with {theirs} {_text(state[theirs])}; {REMEDY}"
        )
    lines = [f"{where}: {found.counts()}", *(f"  {line}" for line in found.missing())]
    raise UserError("\n".join([*lines, f"{REMEDY}; --partial takes what agrees"]))


REMEDY = "give the weights of this network, or name the network that they are of"


def _resampled(network: nn.Module, wanted: State, state: State) -> State:
    """Return ``state`` with positions for the network's patches, where it has those of a square."""
    name = next((name for name in state if name.endswith(POSITIONS)), "")
    if POSITIONS not in wanted or not name or state[name].dim() != wanted[POSITIONS].dim():
        return state
    side = math.isqrt(state[name].shape[1] - 1)
    if state[name].shape == wanted[POSITIONS].shape or side * side + 1 != state[name].shape[1]:
        return state
    grid: Any = network.position_grid
    return {**state, name: resample_positions(state[name].float(), (side, side), grid)}


def _by_names(wanted: State, state: State, by: str) -> Match:
    """Return the match of names under a rule and of shapes, sides of length 1 apart."""
    pairs = {KEY_MAPS[by].rename(name): name for name in state}
    both = {name: pairs[name] for name in wanted if name in pairs}
    used = {o: their for o, their in both.items() if _sides(wanted[o]) == _sides(state[their])}
    shapes: dict[str, str] = {}
    for ours in [name for name in both if name not in used]:
        theirs = both[ours]
        differ = (
            f"{ours} ({_text(wanted[ours])} in the network, {_text(state[theirs])} in the file)"
        )
        shapes |= {ours: differ, theirs: differ}
    idle = [name for name in state if KEY_MAPS[by].rename(name) is None]
    return _report(wanted, state, used, by, shapes, idle)


def _in_order(wanted: State, state: State) -> Match | None:
    """Return the match of the tensors in their order; None unless every one agrees.

    Both list their tensors in the order in which the network was written, unless the file is of
    safetensors, which sorts them. What a tensor is for (the end of its name) must agree as well,
    since all of a BatchNorm's have one shape.
    """
    ours, theirs = _weights(wanted), _weights(state)
    if set(ours) & set(theirs) or len(theirs) < len(ours):
        return None
    used = dict(zip(ours, theirs, strict=False))  # a classifier's come last
    agree = all(
        wanted[our].shape == state[their].shape and _purpose(our) == _purpose(their)
        for our, their in used.items()
    )
    if not agree:
        return None
    found = _report(wanted, state, used, IN_ORDER)
    return found if found.whole else None


def _report(
    wanted: State,
    state: State,
    used: Mapping[str, str],
    by: str,
    other_shapes: Mapping[str, str] | None = None,
    idle: Sequence[str] = (),
) -> Match:
    """Return the match of ``used``, the file's names by the network's."""
    taken = set(used.values())
    free = [name for name in _weights(state) if name not in taken and name not in idle]
    classifier = [name for name in free if CLASSIFIER.fullmatch(name) and name not in wanted]
    return Match(
        tensors={our: state[their].reshape(wanted[our].shape) for our, their in used.items()},
        used=tuple(taken),
        left=tuple(name for name in _weights(wanted) if name not in used),
        unused=tuple(name for name in free if name not in classifier),
        classifier=tuple(classifier),
        idle=tuple(_weights(idle)),
        other_shapes=other_shapes or {},
        by=by,
    )


def _weights(state: Iterable[str]) -> list[str]:
    return [name for name in state if not name.endswith(NOT_WEIGHTS)]


def _sides(tensor: Tensor) -> list[int]:
    return [side for side in tensor.shape if side != 1]


def _purpose(name: str) -> str:
    return name.rpartition(".")[2]


def _collapsed(names: Sequence[str], others: Iterable[str]) -> list[str]:
    """Return ``names``, or instead of all in a module that has none of ``others`` the module's."""
    kept = {prefix for name in others for prefix in _prefixes(name)}
    groups: dict[str, list[str]] = {}
    for name in names:
        first = next((prefix for prefix in _prefixes(name) if prefix not in kept), name)
        groups.setdefault(first, []).append(name)
    return [
        f"{module} ({len(those)} tensors)" if len(those) > 1 else those[0]
        for module, those in groups.items()
    ]


def _prefixes(name: str) -> list[str]:
    """Return the modules that a tensor lies in, the outermost first, and its own name."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _text(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
