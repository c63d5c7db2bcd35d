"""Weights that others trained: their files, read without running code, for a network of ours."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.weights import header_of, refuse_long_header, save_weights
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.network import BackboneNetwork
from dcsnas.spaces.space import load_space
from dcsnas.zoo.matching import Match, match

WRAPPERS = ("state_dict", "model")
"""Keys under which training programs keep the weights beside their optimizer and the like."""
PREFIX = "module."
"""What DataParallel puts before every name."""
_scalar = np.float64(0).__reduce__()[0]
PLAIN: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    *(np.dtype, type(np.dtype("float32")), type(np.dtype("float64"))),
]
"""What a NumPy number consists of in a file: torchreid's hold the best Rank-1 as one. None of these
does more than hold a value."""


def import_weights(
    architecture: ArchitectureFile, out: Path, given: Path | None = None, *, partial: bool = False
) -> Match:
    """Write the backbone of ``architecture`` to ``out`` with the weights in the file ``given``.

    Without a file they are those that the backbone's library publishes. Attention is new: the
    identity. Raises UserError where they do not belong to the backbone, where there are none, and,
    unless ``partial``, where some tensors have no counterpart.
    """
    network = architecture.network
    module = build(network)
    if isinstance(module, BackboneModule):
        name, target = network.layers[0].form, module.trunk
    else:
        name, target = architecture.provenance.space, module
    if given:
        found = match(target, load_plain_state(given), given, partial=partial)
    elif isinstance(network, BackboneNetwork):
        published = find_backbone(network.backbone).pretrained()
        where = f"the published weights of {name}"
        found = match(target, published, where, partial=partial)
    else:
        raise UserError(f"{name}: nobody publishes weights of this network; give a file of some")
    target.load_state_dict(dict(found.tensors), strict=False)
    images = DataConfig(root=Path(), mean=found.images.mean, std=found.images.std)
    header = header_of("import", architecture, images, architecture.input, num_classes=0)
    save_weights(out, module.state_dict(), header)
    return found


def network_named(name: str) -> ArchitectureFile:
    """Return the one network of the space called ``name``, without attention.

    Raises UserError where the space has several.
    """
    space = load_space(name).without_attention()
    if space.decisions:
        raise UserError(
            f"--arch {name}: a space of many networks; give the architecture.yaml of one"
        )
    return space.described({}, space.size)


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


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:3], "..."] if len(names) > 3 else list(names)


def _unwrapped(content: Any) -> Any:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            return _unwrapped(content[wrapper])
    return content


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            refuse_long_header(path)
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f"{path}: not a safetensors file, or truncated ({error}); fetch it again"
            ) from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(PLAIN):
            warnings.simplefilter("ignore")  # of old formats, which are read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: holds more than tensors, and reading it could run code; where you trust it, "
            "save its network's state_dict() alone, best as .safetensors"
        ) from None
    except Exception as error:  # torch and pickle name no common type for a file that is not theirs
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a torch file of weights, or truncated ({reason}); fetch it again"
        ) from None
