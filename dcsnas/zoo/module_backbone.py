"""A backbone out of any torch module that says where its stages end.

Nothing else is known of it. What its maps measure and which strides its last stage has are found by
running it on the meta device, where only shapes are computed.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import FeaturePart, Size, StageEnd
from dcsnas.spaces.units import Cost, TrunkMemory
from dcsnas.zoo.batch_norm import make_batch_wide
from dcsnas.zoo.counting import count
from dcsnas.zoo.memory import observe_memory
from dcsnas.zoo.stages import (
    BATCH,
    Layout,
    NotAdaptableError,
    Observed,
    announced_ends,
    map_layout,
    map_size,
    observe,
    shape_text,
)
from dcsnas.zoo.strides import last_strides, remove_strides

NewNetwork = Callable[[], nn.Module]
Published = Callable[[], Mapping[str, Tensor]]


def no_draws() -> AbstractContextManager[None]:
    """Keep the random numbers that follow independent of what is only looked at."""
    return torch.random.fork_rng(devices=[])


class ModuleBackbone:
    """A network without a classifier; implements ``spaces.backbones.Backbone``.

    ``new_network`` returns it with fresh weights and with ``feature_info``, a list with ``module``,
    ``num_chs`` and ``reduction`` of each stage, as timm's networks have. It is looked at with
    images of (height, width) ``usual_size``. ``published`` returns or fetches its authors' weights.
    ``feature_parts`` are those of features that consist of several vectors.
    """

    layout: Layout
    feature_dim: int
    output_strides: tuple[int, ...]
    stage_ends: tuple[StageEnd, ...]

    def __init__(
        self,
        name: str,
        new_network: NewNetwork,
        *,
        usual_size: Size,
        published: Published | None = None,
        feature_parts: tuple[FeaturePart, ...] = (),
    ) -> None:
        """Examine the network; raises UserError with the reason where it cannot be adapted."""
        self.name = name
        self._new_network = new_network
        self._size = usual_size
        self._published = published
        self._map_sizes: dict[tuple[int, Size], tuple[Size, ...]] = {}
        self._costs: dict[tuple[int, Size], Cost] = {}
        self._memories: dict[tuple[int, Size], TrunkMemory] = {}
        try:
            network = self._examine()
        except NotAdaptableError as error:
            raise UserError(
                f"backbone {name}: {error}, so attention cannot be put after its stages; choose "
                "another, such as resnet50 or mobilenetv2_100"
            ) from None
        self.feature_parts = feature_parts or (FeaturePart(self.feature_dim),)
        self._strides: tuple[str, ...] = ()
        self._why_no_finer = ""
        try:
            self._strides = self._removable_strides(network)
        except NotAdaptableError as error:
            self._why_no_finer = str(error)
        else:
            self.output_strides += (self.output_strides[0] // 2,)

    def _examine(self) -> nn.Module:
        """Find all but the finer stride, and return the network on the meta device."""
        with torch.device("meta"), no_draws():
            network = self._new_network()
        self.stage_ends = announced_ends(network)
        self.output_strides = (self.stage_ends[-1].reduction,)
        observed = self._observe(network, self._size)
        self.layout = map_layout(self.stage_ends, observed, self._size)
        features = observed.features
        if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != BATCH:
            kind = type(features).__name__
            given = shape_text(features.shape) if isinstance(features, Tensor) else f"a {kind}"
            raise NotAdaptableError(f"it gives {given}, not one feature vector for each image")
        self.feature_dim = features.shape[1]
        return network

    def _removable_strides(self, network: nn.Module) -> tuple[str, ...]:
        """Take the strides out of the last stage of ``network``, and return whose they were.

        Raises NotAdaptableError where that is not possible, or does more than it should.
        """
        size, ends = self._size, self.stage_ends
        natural = self._sizes(self._observe(network, size))
        strides = last_strides(network, ends, self.layout, size)
        remove_strides(network, strides)
        without = f"without the stride of {', '.join(strides)}"
        try:
            found = self._sizes(self._observe(network, size))
        except NotAdaptableError as error:
            raise NotAdaptableError(f"{without} {error}") from error
        finest = {end.reduction: map_ for end, map_ in zip(ends, natural, strict=True)}
        last = ends[-1].reduction
        wanted = tuple(finest[min(end.reduction, last // 2)] for end in ends)
        if found != wanted:
            raise NotAdaptableError(
                f"{without} its last map measures {found[-1]} for images of {size}, not "
                f"{wanted[-1]}"
            )
        return strides

    def _observe(self, network: nn.Module, size: Size) -> Observed:
        modules = [end.module for end in self.stage_ends]
        try:
            return observe(network.eval(), modules, size)
        except UserError:  # a network of ours that knows what it can take
            raise
        except Exception as error:  # whatever the network's own code raises
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise NotAdaptableError(
                f"it cannot take images of {size[0]}x{size[1]} ({reason})"
            ) from error

    def _sizes(self, observed: Observed) -> tuple[Size, ...]:
        outputs = (observed.outputs[end.module][0] for end in self.stage_ends)
        return tuple(map_size(output.shape, self.layout) for output in outputs)

    def map_sizes(self, output_stride: int, size: Size) -> tuple[Size, ...]:
        """Return (height, width) of the map at each stage end for an input of ``size``.

        Raises UserError where the network cannot take images of ``size``.
        """
        key = output_stride, size
        if key not in self._map_sizes:
            with torch.device("meta"), no_draws():
                network = self._at(output_stride)
            try:
                self._map_sizes[key] = self._sizes(self._observe(network, size))
            except NotAdaptableError as error:
                own = "{}x{}".format(*self._size)
                raise UserError(
                    f"backbone {self.name}: {error}; set input to a size that it can take, such "
                    f"as {own}"
                ) from None
        return self._map_sizes[key]

    def cost(self, output_stride: int, size: Size) -> Cost:
        """Return parameters, and MACs and activations for one image of ``size``."""
        key = output_stride, size
        if key not in self._costs:
            self.map_sizes(output_stride, size)  # raises for a size that does not do
            with no_draws():
                network = self._at(output_stride)
            self._costs[key] = count(network, size)
        return self._costs[key]

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds while it runs on one image of ``size``."""
        key = output_stride, size
        if key not in self._memories:
            self.map_sizes(output_stride, size)  # raises for a size that does not do
            with no_draws():
                network = self._at(output_stride)
            modules = [end.module for end in self.stage_ends]
            self._memories[key] = observe_memory(network, modules, size, self.layout)
        return self._memories[key]

    def create(self, output_stride: int) -> nn.Module:
        """Return the network with fresh weights, as its library draws them."""
        network = self._at(output_stride)
        make_batch_wide(network, self.name)
        return network

    def pretrained(self) -> Mapping[str, Tensor]:
        """Return the weights that its authors publish; raises UserError where there are none."""
        if self._published is None:
            raise UserError(
                f"backbone {self.name}: nobody publishes weights of it that can be fetched; give "
                "a file of some, or train it from fresh ones"
            )
        return self._published()

    def _at(self, output_stride: int) -> nn.Module:
        if output_stride not in self.output_strides:
            allowed = " or ".join(map(str, self.output_strides))
            why = f" ({self._why_no_finer})" if self._why_no_finer else ""
            raise UserError(
                f"backbone {self.name}: output_stride {output_stride} is not {allowed}{why}; "
                f"set output_stride to {allowed}"
            )
        network = self._new_network()
        if output_stride != self.output_strides[0]:
            remove_strides(network, self._strides)
        return network
