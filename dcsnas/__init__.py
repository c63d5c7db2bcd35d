"""Latency-aware differentiable architecture search around FBNetV2 with DCS-Attention, on NNI 3.0.

Data flows one way, and so do imports (checked by ``tests/test_layers.py``)::

    config -> spaces -> nn -> losses -> latency -> data -> evaluation -> deployment -> training
           -> search -> plots -> experiments -> demo -> cli

Nothing heavy is imported here, so that ``dcsnas --help`` answers at once.
"""

from dcsnas.torchvision_compat import mend_torchvision

__version__ = "0.2.0"

mend_torchvision()
