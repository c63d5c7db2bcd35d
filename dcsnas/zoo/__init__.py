"""Fixed backbones: found by name, counted, and given weights from elsewhere.

Imported as a plugin, which registers timm's networks and those here; neither timm nor torch is
imported before a name is asked for.
"""

from collections.abc import Callable, Sequence
from importlib import import_module

from dcsnas.spaces.backbones import LIBRARIES, Backbone, Library, register_backbone


def _names() -> Sequence[str]:
    from dcsnas.zoo.timm_backbone import timm_names

    return timm_names()


def _get(name: str) -> Backbone | None:
    from dcsnas.zoo.timm_backbone import find_in_timm

    return find_in_timm(name)


def _transreid(name: str) -> Backbone | None:
    if not name.startswith("transreid"):
        return None
    from dcsnas.zoo.transreid import backbone

    return backbone(name)


LIBRARIES["timm"] = Library(names=_names, get=_get)


def _from(module: str, name: str) -> Callable[[], Backbone]:
    """Return what imports ``module`` of this package and makes its backbone called ``name``."""
    return lambda: import_module(f"dcsnas.zoo.{module}").backbone(name)


register_backbone("hacnn", _from("hacnn", "hacnn"))
register_backbone("mobilenetv2_200", _from("mobilenetv2", "mobilenetv2_200"))
for _name in ("osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25"):
    register_backbone(_name, _from("osnet", _name))
register_backbone("vit_base", _from("vit", "vit_base"))
LIBRARIES["transreid"] = Library(names=lambda: ["transreid"], get=_transreid)
