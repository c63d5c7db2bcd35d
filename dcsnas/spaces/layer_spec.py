"""What all layers have in common."""

from dcsnas.config.strict import Strict
from dcsnas.spaces.backbones import Place, Size


class LayerSpec(Strict):
    """What layers have in common."""

    def out_size(self, size: Size) -> Size:
        """Return the output (height, width) for an input of ``size``."""
        raise NotImplementedError

    def inner_places(self, size: Size) -> tuple[Place, ...]:
        """Return where the layers that follow run inside of this one."""
        return ()


class EndSpec(LayerSpec):
    """What layers have in common that end in one feature vector."""

    def out_size(self, size: Size) -> Size:
        """Return the output (height, width): one value a channel."""
        return 1, 1
