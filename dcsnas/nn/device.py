"""Choosing the device that a stage runs on."""

import torch

from dcsnas.config.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``; raises UserError without the device."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError(
            "device cuda was asked for, but torch finds no CUDA device here; use --device cpu, "
            "or install a CUDA build of torch and check nvidia-smi"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")
