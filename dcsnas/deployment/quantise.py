"""int8 by ONNX Runtime's static quantisation: Q and DQ nodes around the backbone's operators.

Weights have a scale for each channel, activations one for each tensor: the range that they had on
calibration images. Normalisation, head and unit length stay in float32. Weights take 7 bits, since
x86 processors without VNNI add pairs of products of 8 bits in 16, where they saturate.

Shapes: B images.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dcsnas.latency.backends.onnx_runtime import INPUT

BACKBONE = "/module/backbone/"
"""What the names of the backbone's nodes begin with in a model of ``export.onnx_model``."""


def quantise(model: bytes, batches: Iterator[np.ndarray]) -> bytes:
    """Return an exported ``model`` in int8, calibrated on images uint8 [B, 3, H, W] in batches.

    The ranges are the least and largest values of a tensor over all images.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _without_warnings():
        folded, small = Path(folder) / "folded.onnx", Path(folder) / "int8.onnx"
        proto = onnx.load_from_string(model)
        _divide_hard_swish(proto.graph)
        # constants are folded before, so that they are not quantised one by one
        quant_pre_process(proto, folded, skip_symbolic_shape=True)
        around = [
            node.name for node in onnx.load(folded).graph.node if not node.name.startswith(BACKBONE)
        ]
        quantize_static(
            folded,
            small,
            _reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=around,
        )
        return small.read_bytes()


def _divide_hard_swish(graph: Any) -> None:
    """Write x clip(x + 3, 0, 6) / 6 in operators that have kernels for 8 bits; HardSwish has none.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, Section 5.2.
    """
    from onnx import helper, numpy_helper

    numbers = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    nodes, found = list(graph.node), False
    del graph.node[:]
    for node in nodes:
        if node.op_type != "HardSwish":
            graph.node.append(node)
            continue
        found = True
        (x,), (y,), name = node.input, node.output, node.name
        steps = [
            ("Add", [x, "hard_swish.three"], f"{name}/above"),
            ("Clip", [f"{name}/above", "hard_swish.zero", "hard_swish.six"], f"{name}/clipped"),
            ("Mul", [x, f"{name}/clipped"], f"{name}/product"),
            ("Mul", [f"{name}/product", "hard_swish.sixth"], y),
        ]
        for index, (kind, inputs, output) in enumerate(steps):
            graph.node.append(helper.make_node(kind, inputs, [output], f"{name}/{index}"))
    if found:
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value, np.float32), f"hard_swish.{key}")
            for key, value in numbers.items()
        )


def _reader(batches: Iterator[np.ndarray]):
    """Return what hands calibration images to ONNX Runtime, which asks for a class of its own."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
            images = next(batches, None)
            return None if images is None else {INPUT: images}

    return Reader()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep out of the log what ONNX Runtime advises to do before, which is done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
