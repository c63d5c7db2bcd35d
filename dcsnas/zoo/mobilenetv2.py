"""MobileNetV2-200: MobileNetV2 made deep, out of timm's blocks.

Source: the DCS-Attention paper of 2022, Table 4: the rows of Sandler et al. (2018), Table 2, with
1, 3, 21, 19, 18, 3 and 1 blocks. Not wider, as timm's multiples (``mobilenetv2_140``) are.
"""

from torch import nn

from dcsnas.zoo.module_backbone import ModuleBackbone
from dcsnas.zoo.torchvision_shim import import_timm

ROWS = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r3_k3_s2_e6_c24"],
    ["ir_r21_k3_s2_e6_c32"],
    ["ir_r19_k3_s2_e6_c64"],
    ["ir_r18_k3_s1_e6_c96"],
    ["ir_r3_k3_s2_e6_c160"],
    ["ir_r1_k3_s1_e6_c320"],
]
"""In timm's notation: kind, repeats, kernel, stride, expansion, channels."""


def backbone(name: str) -> ModuleBackbone:
    """Return the backbone, under ``name``."""
    return ModuleBackbone(name, mobilenetv2_200, usual_size=(256, 128))


def mobilenetv2_200() -> nn.Module:
    """Return the network with fresh weights: images [B, 3, H, W] to features [B, 1280]."""
    import_timm()
    from timm.models.efficientnet import (
        EfficientNet,
        decode_arch_def,  # pyright: ignore[reportPrivateImportUsage]
    )

    return EfficientNet(decode_arch_def(ROWS), num_classes=0, num_features=1280, act_layer=nn.ReLU6)
