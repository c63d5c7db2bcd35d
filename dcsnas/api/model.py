"""A network in use: scored, embedding images, exported; of a weights file or in memory."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.outputs import output
from dcsnas.config.runs import file_in
from dcsnas.config.stages import IMAGENET_MEAN, IMAGENET_STD, DataConfig
from dcsnas.config.strict import validate
from dcsnas.data.loading import Given
from dcsnas.deployment.embedding import Embedder, one_by_one
from dcsnas.deployment.executorch import export_executorch
from dcsnas.deployment.export import Exported, export_onnx
from dcsnas.deployment.folder import Deployed, export_folder
from dcsnas.evaluation.features import Progress
from dcsnas.nn.weights import (
    NetworkInUse,
    WeightsHeader,
    load_network,
    network_in_memory,
    read_header,
)
from dcsnas.spaces.layers import Size
from dcsnas.tasks.task import evaluate, find_task, read_data

Place = Path | str


class Model:
    """A network in memory, in use at one input size and normalisation.

    Args:
        network: Maps normalised images [B, 3, H, W] to features [B, D], as ``build`` gives it; or a
            TaskNetwork, which has a task's head too. Every use is of a copy, as it then is.
        input: (height, width) that images are scaled to.
        mean: Of red, green and blue, from 0 to 1.
        std: Likewise.
        task: What its features are for.

    """

    def __init__(
        self,
        network: nn.Module,
        *,
        input: Size,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        task: str = "reid",
    ) -> None:
        self._network = network_in_memory(network, task=task, size=input, mean=mean, std=std)

    def evaluate(
        self, data: Place, *, variant: Mapping[str, Any] | None = None, **rules: Any
    ) -> Any:
        """Return the task's report: scores in percent such as ``map``; ``record()`` has it all.

        ``variant`` says which part of a set that has several, as ``{"cuhk03": "labeled"}``.
        ``rules`` are the task's (of re-identification ``camera_filter``, ``ap``, ``flip``,
        ``rerank``, ``ib_size``, ``ib_temperature``, ``ib_centered``), and ``device``, ``workers``,
        ``threads`` and ``progress``.
        """
        return self._evaluate({"root": data, "variant": variant or {}}, "evaluate", rules)

    def embed(
        self, images: Given | Sequence[Given], *, device: str = "auto", workers: int = 0
    ) -> np.ndarray:
        """Return features [N, D], float32, of unit length.

        ``images`` are files or folders, arrays uint8 [H, W, 3] or tensors uint8 [3, H, W], RGB of
        any size: one, several, or a batch with a first dimension N.
        """
        return Embedder(self._use(), device=device, workers=workers).embed(one_by_one(images))

    def export(self, out: Place) -> Exported:
        """Write a model from pixels to features, and say how far it is from torch.

        A name that ends in ``.pte`` makes it a program for ExecuTorch; any other, an ONNX file.
        """
        write = export_executorch if Path(out).suffix == ".pte" else export_onnx
        with output(Path(out), force=True):
            return write(self._use(), Path(out))

    def deploy(self, out: Place, data: Place | None = None, *, workers: int = 0) -> Deployed:
        """Write a folder to deploy: ONNX in float32 and int8, a program, a model card.

        int8 is calibrated, and both are scored, on the images of ``data``; of a trained network
        that is the data set of its training unless given.
        """
        at = Path(data) if data is not None else None
        used = self._use()
        return export_folder(used, Path(out), data=at, workers=workers, force=True, bar=_no_bar)

    def _use(self) -> NetworkInUse:
        return self._network._replace(network=copy.deepcopy(self._network.network))

    def _evaluate(self, data: Mapping[str, Any], source: Place, rules: Mapping[str, Any]) -> Any:
        used, config = self._use(), validate(DataConfig, data, source)
        return evaluate(used, read_data(find_task(used.header.task), config), **rules)


@contextmanager
def _no_bar(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


class TrainedRun(Model):
    """The network in the file ``weights`` of a run of ``train``, in the folder ``path``.

    ``score`` is the task's metric in percent where the training ended with one, as a pretraining.
    """

    def __init__(self, weights: Place, score: float | None = None) -> None:
        self.weights = Path(weights)
        self.path = self.weights.parent
        self.score = score

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.weights)!r})"

    @cached_property
    def header(self) -> WeightsHeader:
        """Return what the file says: architecture, task, input, the epoch that was chosen."""
        return read_header(self.weights)

    def evaluate(
        self,
        data: Place | None = None,
        *,
        variant: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> Any:
        """Return the task's report as ``Model``'s, on the data set of the training unless given."""
        if data is not None:
            return super().evaluate(data, variant=variant, **rules)
        config = self.path / "config.yaml"
        content = read_yaml(config).get("data") if config.exists() else None
        if content is None:
            raise UserError(
                f"{self.weights}: there is no config.yaml beside it that says on which data set; "
                "give its folder as data"
            )
        changed = content if variant is None else {**content, "variant": variant}
        return self._evaluate(changed, config, rules)

    def export(self, out: Place | None = None) -> Exported:
        """Write a model as above; an ONNX file beside the weights unless ``out`` is given."""
        return super().export(out or self.weights.with_suffix(".onnx"))

    @cached_property
    def _loaded(self) -> NetworkInUse:
        return load_network(self.weights, find_task(self.header.task).head)

    def _use(self) -> NetworkInUse:
        return self._loaded


def load_weights(path: Place) -> TrainedRun:
    """Return the network of a weights file, or of the run folder of a retraining."""
    found = TrainedRun(file_in(Path(path), "model.safetensors"))
    read_header(found.weights)
    return found
