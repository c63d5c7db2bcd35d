"""Fixed backbones: found by name, counted, and given weights from elsewhere.

Imported as a plugin, which registers timm's networks and those here; neither timm nor torch is
imported before a name is asked for.
"""

from collections.abc import Sequence

from dcsnas.spaces.backbones import LIBRARIES, Backbone, Library, register_backbone


def _names() -> Sequence[str]:
    from dcsnas.zoo.timm_backbone import timm_names

    return timm_names()


def _get(name: str) -> Backbone | None:
    from dcsnas.zoo.timm_backbone import find_in_timm

    return find_in_timm(name)


def _hacnn() -> Backbone:
    from dcsnas.zoo.hacnn_backbone import HACNNBackbone

    return HACNNBackbone()


register_backbone("hacnn", _hacnn)
LIBRARIES["timm"] = Library(names=_names, get=_get)
