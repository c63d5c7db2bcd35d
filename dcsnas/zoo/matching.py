"""Which tensors of a file belong to which of a network: by name, by a rule for names, by order."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.zoo.weight_files import State

COUNTER = "num_batches_tracked"
"""A BatchNorm's step count, which old files lack and which no result depends on."""
CLASSIFIER = re.compile(
    r"(classifier(_global|_local)?(\.\d+)?|fc|head(\.fc)?|heads\.head|last_linear)\.(weight|bias)"
)
"""The names of classifiers in timm, torchvision and torchreid. Only a tensor that the network has
no place for is one: a backbone's own layer may have such a name."""
AS_THEY_ARE = "by name"
IN_ORDER = "by their order, since no name agrees"


def from_torchvision_mobilenetv2(name: str) -> str:
    """Return timm's name of a tensor of torchvision's MobileNetV2, other names as they are."""
    found = re.fullmatch(r"features\.(\d+)\.(.+)\.(\w+)", name)
    if not found:
        return name
    index, layer, tensor = int(found[1]), found[2], found[3]
    if index == 0:
        return f"{STEM.get(layer, layer)}.{tensor}"
    if index > sum(REPEATS):
        return f"{LAST.get(layer, layer)}.{tensor}"
    names = PLAIN_BLOCK if index == 1 else EXPANDED_BLOCK
    stage, block = _block_at(index - 1)
    return f"blocks.{stage}.{block}.{names.get(layer, layer)}.{tensor}"


REPEATS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of each of MobileNetV2's stages; timm counts within a stage, torchvision does not."""
STEM, LAST = {"0": "conv_stem", "1": "bn1"}, {"0": "conv_head", "1": "bn2"}
PLAIN_BLOCK = {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}
EXPANDED_BLOCK = {
    **{"conv.0.0": "conv_pw", "conv.0.1": "bn1", "conv.1.0": "conv_dw", "conv.1.1": "bn2"},
    **{"conv.2": "conv_pwl", "conv.3": "bn3"},
}


def _block_at(index: int) -> tuple[int, int]:
    """Return stage and block within it of the block at ``index``."""
    for stage, count in enumerate(REPEATS):
        if index < count:
            return stage, index
        index -= count
    return len(REPEATS), index


KEY_MAPS: dict[str, Callable[[str], str]] = {
    AS_THEY_ARE: str,
    "by torchvision's names of MobileNetV2": from_torchvision_mobilenetv2,
}
"""Rules from a file's names to a network's. torchvision's and torchreid's ResNets have timm's
names, and the networks here that torchreid has as well have torchreid's."""


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
    other_shapes: Mapping[str, str]
    """Those of ``left`` and ``unused`` that differ in nothing but their shapes, and how."""
    by: str
    """How they were matched, for people."""

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
        of_file = self.count + len(self.unused) + len(self.classifier)
        return (
            f"{self.count} of {of_network} tensors of the network agree with one of the {of_file} "
            "of the file"
        )

    def lines(self) -> list[str]:
        """Return what matched, what was left out and why."""
        classifier = f"left out as a classifier: {', '.join(self.classifier)}"
        return [
            f"{self.counts()}, matched {self.by}",
            *([classifier] if self.classifier else []),
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


def _by_names(wanted: State, state: State, by: str) -> Match:
    """Return the match of names under a rule and of shapes."""
    pairs = {KEY_MAPS[by](name): name for name in state}
    both = {name: pairs[name] for name in wanted if name in pairs}
    used = {o: theirs for o, theirs in both.items() if wanted[o].shape == state[theirs].shape}
    shapes: dict[str, str] = {}
    for ours in [name for name in both if name not in used]:
        theirs = both[ours]
        differ = (
            f"{ours} ({_text(wanted[ours])} in the network, {_text(state[theirs])} in the file)"
        )
        shapes |= {ours: differ, theirs: differ}
    return _report(wanted, state, used, by, shapes)


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
    found = _report(wanted, state, used, IN_ORDER)
    return found if agree and found.whole else None


def _report(
    wanted: State,
    state: State,
    used: Mapping[str, str],
    by: str,
    other_shapes: Mapping[str, str] | None = None,
) -> Match:
    """Return the match of ``used``, the file's names by the network's."""
    taken = set(used.values())
    free = [name for name in _weights(state) if name not in taken]
    classifier = [name for name in free if CLASSIFIER.fullmatch(name) and name not in wanted]
    return Match(
        tensors={ours: state[theirs] for ours, theirs in used.items()},
        used=tuple(taken),
        left=tuple(name for name in _weights(wanted) if name not in used),
        unused=tuple(name for name in free if name not in classifier),
        classifier=tuple(classifier),
        other_shapes=other_shapes or {},
        by=by,
    )


def _weights(state: Iterable[str]) -> list[str]:
    return [name for name in state if not name.endswith(COUNTER)]


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
