"""Weights that others trained: read without running code, and matched to a network's tensors."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.network import BackboneNetwork

State = Mapping[str, Tensor]

WRAPPERS = ("state_dict", "model")
"""Keys under which training programs keep the weights beside their optimizer and the like."""
PREFIX = "module."
"""What DataParallel puts before every name."""
COUNTER = "num_batches_tracked"
"""A BatchNorm's step count, which old files lack and which no result depends on."""
ENOUGH = 0.9
"""Share of a network's tensors that must match. A ResNet-50's file fits 51 % of a ResNet-101,
whose other half would be left at random."""


@dataclass(frozen=True)
class Match:
    """Which tensors of a file belong to which of a network."""

    tensors: State
    """The file's tensors under the network's names, to be loaded with ``strict=False``."""
    left: tuple[str, ...]
    """The network's tensors that the file has none for: kept as initialised. Step counts aside."""
    unused: tuple[str, ...]
    """The file's tensors that the network has no place for, such as a classifier's."""
    by: Literal["name", "order"]
    """Names and shapes, or, where no name agrees, the order of the tensors and their shapes."""

    def summary(self) -> str:
        """Return the counts in one line."""
        how = "by name" if self.by == "name" else "by their order, since no name agrees"
        unused = f" ({', '.join(_few(self.unused))})" if self.unused else ""
        return (
            f"{len(self.tensors)} tensors matched {how}, {len(self.left)} left as initialised, "
            f"{len(self.unused)} of the file not used{unused}"
        )


def import_weights(architecture: ArchitectureFile, out: Path, given: Path | None = None) -> Match:
    """Write the backbone of ``architecture`` to ``out`` with the weights in the file ``given``.

    Without a file they are those that the backbone's library publishes. Attention is new: the
    identity. Raises UserError where they do not belong to the backbone, or there are none.
    """
    network = architecture.network
    module = build(network)
    if isinstance(module, BackboneModule):
        name, target = network.layers[0].form, module.trunk
    else:
        name, target = architecture.provenance.space, module
    if given:
        found = match(target, load_plain_state(given), given)
    elif isinstance(network, BackboneNetwork):
        published = find_backbone(network.backbone).pretrained()
        found = match(target, published, f"the published weights of {name}")
    else:
        raise UserError(f"{name}: nobody publishes weights of this network; give a file of some")
    target.load_state_dict(dict(found.tensors), strict=False)
    images = DataConfig(root=Path())
    header = header_of("import", architecture, images, architecture.input, num_classes=0)
    save_weights(out, module.state_dict(), header)
    return found


def load_foreign_weights(path: Path, network: nn.Module) -> Match:
    """Load the weights in ``path`` into ``network``; raises UserError where they do not belong."""
    found = match(network, load_plain_state(path), path)
    network.load_state_dict(dict(found.tensors), strict=False)
    return found


def load_plain_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a safetensors or a torch file; raises UserError.

    Takes them out of the wrapping of common training programs.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .safetensors, .pth or .pt file of weights")
    content = _unwrapped(_read(path))
    entries = content if isinstance(content, Mapping) else {}
    state = {str(name): value for name, value in entries.items() if isinstance(value, Tensor)}
    if not state:
        held = (
            f"the keys {', '.join(_few(list(map(str, entries))))}"
            if entries
            else (f"a {type(content).__name__}")
        )
        raise UserError(
            f"{path}: holds no tensors by name but {held}; give a file of a state_dict, alone or "
            f"under {' or '.join(WRAPPERS)}"
        )
    if all(name.startswith(PREFIX) for name in state):
        state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    return state


def _unwrapped(content: Any) -> Any:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            return _unwrapped(content[wrapper])
    return content


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path}: not a safetensors file, or truncated ({error}); fetch it again"
            ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors, and reading it could run code; where you trust it, "
            "save its network's state_dict() alone, best as .safetensors"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a torch file of weights, or truncated ({reason}); fetch it again"
        ) from None


def match(network: nn.Module, state: State, where: Path | str = "the weights") -> Match:
    """Return which tensors of ``state`` belong to which of ``network``, changing neither.

    Raises UserError that begins with ``where`` for the weights of another network.
    """
    wanted = network.state_dict()
    matched = {name: state[name] for name, tensor in wanted.items() if _same(state, name, tensor)}
    if _weights(matched) and len(_weights(matched)) >= ENOUGH * len(_weights(wanted)):
        return _report(matched, list(matched), wanted, state, "name")
    used = _in_order(wanted, state)
    if not used:
        raise UserError(f"{where}: {_difference(wanted, state, matched)}")
    tensors = {name: state[used[name]] for name in used}
    return _report(tensors, list(used.values()), wanted, state, "order")


def _same(state: State, name: str, tensor: Tensor) -> bool:
    return name in state and state[name].shape == tensor.shape


def _weights(state: State) -> list[str]:
    return [name for name in state if not name.endswith(COUNTER)]


def _report(
    tensors: State, used: Sequence[str], wanted: State, state: State, by: Literal["name", "order"]
) -> Match:
    left = tuple(name for name in _weights(wanted) if name not in tensors)
    unused = tuple(name for name in _weights(state) if name not in set(used))
    return Match(tensors, left, unused, by)


def _in_order(wanted: State, state: State) -> dict[str, str]:
    """Return the file's name for each of the network's; empty unless every one agrees.

    Both list their tensors in the order in which the network was written, unless the file is of
    safetensors, which sorts them. What a tensor is for (the end of its name) must agree as well,
    since all of a BatchNorm's have one shape.
    """
    ours, theirs = _weights(wanted), _weights(state)
    if set(ours) & set(theirs) or len(theirs) < len(ours):
        return {}
    pairs = dict(zip(ours, theirs, strict=False))  # a classifier's come last
    agree = all(
        wanted[our].shape == state[their].shape and _purpose(our) == _purpose(their)
        for our, their in pairs.items()
    )
    return pairs if agree else {}


def _purpose(name: str) -> str:
    return name.rpartition(".")[2]


def _difference(wanted: State, state: State, matched: State) -> str:
    counts = (
        f"weights of another network: {len(_weights(matched))} of {len(_weights(wanted))} tensors "
        f"of the network agree with one of the {len(_weights(state))} of the file"
    )
    for name in _weights(wanted):
        if name not in matched and name in state:
            shapes = f"{_text(wanted[name])} in the network, {_text(state[name])} in the file"
            return f"{counts}; {name} is {shapes}; {REMEDY}"
    missing = next(name for name in _weights(wanted) if name not in matched)
    first = next(iter(state), "nothing")
    example = f"{missing} {_text(wanted[missing])} is not in the file, which begins with {first}"
    shape = f" {_text(state[first])}" if first in state else ""
    return f"{counts}; {example}{shape}; {REMEDY}"


REMEDY = "give the weights of this backbone, or name the backbone that they are of"


def _text(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:3], "..."] if len(names) > 3 else list(names)
