"""Libraries' advice to developers, which a user of dcsnas can do nothing about."""

import warnings

_SOURCES = ("nni", "pytorch_lightning", "lightning_utilities", r"torch\.utils\.(_pytree|data)")


def quiet_libraries() -> None:
    """Silence warnings about NNI's torch version and Lightning's loaders in this process."""
    for source in _SOURCES:
        warnings.filterwarnings("ignore", module=source)
    # of convolutions with a single channel a group, when several processes share their gradients
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
