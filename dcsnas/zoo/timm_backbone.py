"""Any network of timm that says where its stages end, as a backbone for attention.

Nothing is known of it but its name. Where its stages end, what its maps measure and which strides
its last stage has are found by running it on the meta device, where only shapes are computed.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from dcsnas.config.errors import UserError
from dcsnas.spaces.backbones import Size, StageEnd
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
from dcsnas.zoo.torchvision_shim import import_timm

USUAL_SIZE: Size = (224, 224)
"""Of images for a network that names none."""


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


def _no_draws() -> AbstractContextManager[None]:
    """Keep the random numbers that follow independent of what is only looked at."""
    return torch.random.fork_rng(devices=[])


class TimmBackbone:
    """A network of timm without its classifier; implements ``spaces.backbones.Backbone``."""

    layout: Layout
    feature_dim: int
    output_strides: tuple[int, ...]
    stage_ends: tuple[StageEnd, ...]

    def __init__(self, name: str) -> None:
        """Examine the network; raises UserError with the reason where it cannot be adapted."""
        config = import_timm().get_pretrained_cfg(name)
        self.name = name
        self._size: Size = tuple(config.input_size[1:]) if config else USUAL_SIZE
        self._fixed_size = bool(config and config.fixed_input_size)
        self._published = bool(config and config.has_weights)
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
        with torch.device("meta"), _no_draws():
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

    def _new_network(self, *, pretrained: bool = False) -> nn.Module:
        create = partial(import_timm().create_model, self.name, pretrained, num_classes=0)
        if self._fixed_size:
            try:
                return create(dynamic_img_size=True)  # for images of other sizes as well
            except TypeError:  # not all can do so
                pass
        return create()

    def _observe(self, network: nn.Module, size: Size) -> Observed:
        modules = [end.module for end in self.stage_ends]
        try:
            return observe(network.eval(), modules, size)
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
            with torch.device("meta"), _no_draws():
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
            with _no_draws():
                network = self._at(output_stride)
            self._costs[key] = count(network, size)
        return self._costs[key]

    def memory(self, output_stride: int, size: Size) -> TrunkMemory:
        """Return what the network holds while it runs on one image of ``size``."""
        key = output_stride, size
        if key not in self._memories:
            self.map_sizes(output_stride, size)  # raises for a size that does not do
            with _no_draws():
                network = self._at(output_stride)
            modules = [end.module for end in self.stage_ends]
            self._memories[key] = observe_memory(network, modules, size, self.layout)
        return self._memories[key]

    def create(self, output_stride: int) -> nn.Module:
        """Return the network with fresh weights, as timm draws them."""
        network = self._at(output_stride)
        make_batch_wide(network, self.name)
        return network

    def pretrained(self) -> Mapping[str, Tensor]:
        """Return the weights that timm publishes, from its cache or fetched; raises UserError."""
        if not self._published:
            raise UserError(
                f"backbone {self.name}: timm publishes no weights of it; give some that you have "
                "(--weights FILE), or train it from fresh ones"
            )
        try:
            with _no_draws():
                return self._new_network(pretrained=True).state_dict()
        except Exception as error:  # of several libraries for HTTP, and of timm's own
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"backbone {self.name}: its weights cannot be fetched "
                f"({type(error).__name__}: {reason}); check this machine's connection, or give a "
                "file of them (--weights FILE)"
            ) from error

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
