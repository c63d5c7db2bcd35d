"""The measured latency of a small saved network, on this machine's real clock."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.config.stages import DataConfig
from dcsnas.evaluation.speed import measure_latency
from dcsnas.latency.conditions import Conditions
from dcsnas.latency.machine import cpu_name, current_conditions
from dcsnas.latency.whole_networks import Measured
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.layers import Size
from dcsnas.spaces.network import AnyNetwork, walk
from dcsnas.spaces.sampling import largest_choice
from latency_fakes import REFERENCE_MS, fake_measured, fake_ms, fake_table, micro_space

SPACE = micro_space()
BATCH = 3


def save(
    path: Path, *, size: Size = SPACE.size, device_name: str | None = None, **origin: Any
) -> Path:
    """Write a network trained at ``size``, its prediction made for batches of three."""
    file = architecture_of(SPACE, largest_choice(SPACE), table=fake_table(SPACE), seed=0)
    update = {"latency_batch": BATCH, "latency_device": device_name or cpu_name(), **origin}
    file = file.model_copy(update={"provenance": file.provenance.model_copy(update=update)})
    header = header_of("retrain", file, DataConfig(root=Path()), size, 5)
    save_weights(path, build(file.network).state_dict(), header)
    return path


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[AnyNetwork, Conditions]]:
    """Return a list of what is measured, in place of the measurement."""
    seen = []

    def watched(
        architectures: list[AnyNetwork], conditions: Conditions, **options: object
    ) -> Measured:
        (architecture,) = architectures
        seen.append((architecture, conditions))
        return fake_measured([1.5], slower=(1.2, 1.2))

    monkeypatch.setattr("dcsnas.evaluation.speed.measure_architectures", watched)
    return seen


@pytest.mark.slow  # the flow measures too
def test_measured_and_predicted_latency_with_the_conditions(tmp_path: Path) -> None:
    found = measure_latency(save(tmp_path / "model.safetensors"), device="cpu")
    assert set(found) == {
        *("measured_ms", "predicted_ms", "at_table_speed_ms", "reference_ms"),
        *("verdict", "conditions"),
    }
    assert 0 < found["measured_ms"] < 1000
    relative = found["measured_ms"] / found["reference_ms"]
    assert found["at_table_speed_ms"] == pytest.approx(relative * REFERENCE_MS)
    layers = SPACE.architecture(largest_choice(SPACE)).layers
    assert found["predicted_ms"] == pytest.approx(sum(map(fake_ms, walk(layers, SPACE.size))))
    conditions = found["conditions"]
    assert conditions == current_conditions(SPACE.size, BATCH).model_dump(mode="json")
    assert (conditions["device"], conditions["threads"]) == ("cpu", 1)
    assert conditions["torch"] == torch.__version__


def test_backbone_alone_is_measured_as_the_prediction_supposes(
    tmp_path: Path, measured: list[tuple[AnyNetwork, Conditions]]
) -> None:
    weights = save(
        tmp_path / "model.safetensors", latency_backend="channels_last", latency_threads=2
    )
    found = measure_latency(weights, device="cpu")
    ((network, conditions),) = measured
    assert found["measured_ms"] == pytest.approx(1.8)  # the machine is slower than for the table
    assert found["at_table_speed_ms"] == pytest.approx(1.5)
    assert found["verdict"]["state"] == "quiet"
    assert found["predicted_ms"] is not None
    assert found["conditions"] == conditions.model_dump(mode="json")
    assert (conditions.backend, conditions.threads) == ("channels_last", 2)
    assert (conditions.batch, conditions.input) == (BATCH, SPACE.size)
    assert network == SPACE.architecture(largest_choice(SPACE))


@pytest.mark.usefixtures("measured")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_what_cannot_run_as_predicted_runs_eagerly(tmp_path: Path) -> None:
    weights = save(tmp_path / "model.safetensors", latency_backend="cuda-graph")
    found = measure_latency(weights, device="cpu")
    assert found["predicted_ms"] is None
    assert found["conditions"]["backend"] == "eager"


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("changes", [{"size": (24, 12)}, {"device_name": "another machine"}])
def test_prediction_for_something_else_is_left_out(tmp_path: Path, changes: Any) -> None:
    found = measure_latency(save(tmp_path / "model.safetensors", **changes), device="cpu")
    assert found["predicted_ms"] is None
    assert found["at_table_speed_ms"] is None
    assert found["conditions"]["input"] == list(changes.get("size", SPACE.size))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors: no such file"):
        measure_latency(tmp_path / "gone.safetensors")
