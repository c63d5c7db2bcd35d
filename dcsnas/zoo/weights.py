"""Weights that others trained, for a network of ours."""

from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import BackboneModule, build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.backbones import find_backbone
from dcsnas.spaces.network import BackboneNetwork
from dcsnas.spaces.space import load_space
from dcsnas.zoo.matching import Match, match
from dcsnas.zoo.weight_files import load_plain_state


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
