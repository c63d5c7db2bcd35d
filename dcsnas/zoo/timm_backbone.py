"""Any network of timm that says where its stages end, as a backbone for attention."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import Size
from dcsnas.zoo.module_backbone import ModuleBackbone, no_draws
from dcsnas.zoo.torchvision_shim import import_timm

USUAL_SIZE: Size = (224, 224)
"""Of images for a network that names none."""
HEAD_OF_HRNET = "incre_modules"
"""Holds what widens the maps of HRNet's last stage, one module for each resolution."""


def timm_names() -> list[str]:
    """Return the names that timm lists; those that cannot be adapted are among them."""
    return import_timm().list_models()


def find_in_timm(name: str) -> "TimmBackbone | None":
    """Return timm's network called ``name``, None where there is none.

    Raises UserError where it cannot be a backbone, and why.
    """
    return TimmBackbone(name) if _is_timm_name(name) else None


def _is_timm_name(name: str) -> bool:
    timm = import_timm()
    try:
        timm.get_pretrained_cfg(name)  # raises for a tag that the network does not have
        return timm.is_model(name)
    except (RuntimeError, ValueError):
        return False


class TimmBackbone(ModuleBackbone):
    """A network of timm."""

    def __init__(self, name: str) -> None:
        """Examine the network; raises UserError with the reason where it cannot be adapted."""
        config = import_timm().get_pretrained_cfg(name)
        self._timm_name = name
        self._fixed_size = bool(config and config.fixed_input_size)
        self._has_weights = bool(config and config.has_weights)
        size: Size = tuple(config.input_size[1:]) if config else USUAL_SIZE
        super().__init__(name, self._create, usual_size=size, published=self._fetched)

    def _create(self, *, pretrained: bool = False) -> nn.Module:
        create = partial(import_timm().create_model, self._timm_name, pretrained, num_classes=0)
        if self._fixed_size:
            try:
                return create(dynamic_img_size=True)  # for images of other sizes as well
            except TypeError:  # not all can do so
                pass
        return _with_known_stages(create())

    def _fetched(self) -> Mapping[str, Tensor]:
        """Return the weights that timm publishes, from its cache or fetched; raises UserError."""
        if not self._has_weights:
            raise UserError(
                f"backbone {self.name}: timm publishes no weights of it; give a file of some, or "
                "train it from fresh ones"
            )
        return fetched(self.name, partial(self._create, pretrained=True))


def fetched(name: str, create: Any) -> Mapping[str, Tensor]:
    """Return the weights with which timm makes the backbone called ``name``; raises UserError."""
    try:
        with no_draws():
            return create().state_dict()
    except Exception as error:  # of several libraries for HTTP, and of timm's own
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"backbone {name}: its weights cannot be fetched "
            f"({type(error).__name__}: {reason}); check this machine's connection, or give a "
            "file of them"
        ) from error


def _with_known_stages(network: Any) -> nn.Module:
    """Return ``network``, an HRNet with the places of its maps in place of names of no module.

    Its stages give lists of maps of all resolutions. The classifier's head widens each map of the
    last list by a module of its own, and those give what is announced.
    """
    info: Any = getattr(network, "feature_info", None)
    if getattr(network, HEAD_OF_HRNET, None) is not None and isinstance(info, list):
        stem, *stages = info
        network.feature_info = [stem] + [
            {**stage, "module": f"{HEAD_OF_HRNET}.{index}"} for index, stage in enumerate(stages)
        ]
    return network
