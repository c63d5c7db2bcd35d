"""A folder to deploy: ONNX in float32 and int8, a program that runs them, and a model card."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcsnas import __version__
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml, replacing, write_json, write_text
from dcsnas.config.outputs import one_writer
from dcsnas.config.stages import DataConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import samples_digest
from dcsnas.data.sets.scan import Sample
from dcsnas.deployment.export import Exported, exportable, onnx_model, with_metadata
from dcsnas.deployment.model_card import model_card
from dcsnas.deployment.model_latency import Times, measure_models
from dcsnas.deployment.quantise import quantise
from dcsnas.deployment.scoring import Scored, batches, read_for, score_models
from dcsnas.latency.backends.onnx_runtime import require_onnx
from dcsnas.nn.weights import NetworkInUse

FULL, SMALL, PROGRAM, CARD, RECORD = (
    "model.onnx",
    "model.int8.onnx",
    "run.py",
    "README.md",
    "deploy.json",
)
CALIBRATION = 256
"""Training images that the ranges of int8 are taken from: evenly spaced, not changed."""

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Deployed:
    """What a folder to deploy holds: its files' sizes in bytes, scores, and times."""

    path: Path
    exported: Exported
    bytes: dict[str, int]
    scored: Scored
    times: Times

    @property
    def ratio(self) -> float:
        """Return how many times as fast the int8 model is, measured in one run."""
        full, small = self.times.ms
        return full / small


def data_of(weights: NetworkInUse, data: Path | None) -> DataConfig:
    """Return where the images are: those of the network's training, but for the folder ``data``.

    Raises UserError where neither is known.
    """
    config = weights.source.with_name("config.yaml") if weights.source else None
    content = read_yaml(config).get("data") if config and config.exists() else None
    if content is None and data is None:
        raise UserError(
            f"{weights}: there is no config.yaml beside it that says on which data set it was "
            "trained; give its folder as --data"
        )
    changed = {**(content or {}), **({"root": str(data)} if data else {})}
    return validate(DataConfig, changed, config or "data")


def export_folder(
    weights: Path | NetworkInUse,
    out: Path,
    *,
    data: Path | None = None,
    workers: int = 0,
    force: bool = False,
    bar: Bar,
) -> Deployed:
    """Write the folder ``out``; its images are those of the network's training unless ``data``.

    Everything is measured before the first file is written. Raises UserError as ``export_onnx``
    does, and where ``out`` has one of the files already, unless ``force``.
    """
    require_onnx("export to ONNX")
    used = exportable(weights)
    config = data_of(used, data)
    images = read_for(used.header, config)
    with one_writer(out):
        _refuse_to_replace(out, force=force)
        full, exported = onnx_model(used, out / FULL)
        chosen = _spaced(images.train, CALIBRATION)
        with bar("calibrating int8"):
            small = quantise(full, batches(chosen, used.header, workers=workers))
        small = _with_facts_of(full, small, {"quantisation": f"int8, {len(chosen)} images"})
        models = {FULL: full, SMALL: small}
        with bar("scoring both models") as progress:
            scored = score_models(models, used.header, images, workers=workers, progress=progress)
        with bar("timing both models") as progress:
            times = _times(models, used, progress)
        sizes = {name: len(content) for name, content in models.items()}
        deployed = Deployed(out, exported, sizes, scored, times)
        record = _record(used, deployed, chosen)
        _write(out, models, record, model_card(record, _recipe(used)))
    return deployed


def _refuse_to_replace(out: Path, *, force: bool) -> None:
    there = [name for name in (FULL, SMALL, PROGRAM, CARD, RECORD) if (out / name).exists()]
    if there and not force:
        raise UserError(
            f"{out}: holds {', '.join(there)} already; give another --out, or --force to replace "
            "what is there"
        )


def _spaced(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return so many samples, evenly spaced over all of them."""
    count = min(count, len(samples))
    return [samples[index * len(samples) // count] for index in range(count)]


def _with_facts_of(full: bytes, small: bytes, more: dict[str, str]) -> bytes:
    """Return the model ``small`` with what ``full`` says about itself, and ``more``."""
    import onnx

    properties = onnx.load_from_string(full).metadata_props
    return with_metadata(small, {**{one.key: one.value for one in properties}, **more})


def _times(
    models: dict[str, bytes], used: NetworkInUse, progress: Callable[[int, int], None]
) -> Times:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in models.items():
            (Path(folder) / name).write_bytes(content)
        paths = [Path(folder) / name for name in models]
        return measure_models(paths, used.header.input, progress=progress)


def _record(
    used: NetworkInUse, deployed: Deployed, calibration: Sequence[Sample]
) -> dict[str, Any]:
    """Return what ``deploy.json`` states."""
    header, scored, times = used.header, deployed.scored, deployed.times
    architecture = header.architecture
    models = {
        name: {
            "bytes": size,
            "scores": scored.scores[name],
            "nearness": scored.nearness[name],
            "latency_ms": ms,
        }
        for (name, size), ms in zip(deployed.bytes.items(), times.ms, strict=True)
    }
    return {
        "schema_version": 1,
        "dcsnas": __version__,
        "task": header.task,
        "metric": scored.metric,
        "network": {
            "weights": used.digest(),
            "architecture": used.architecture_digest,
            "space": architecture.provenance.space if architecture else None,
            "params": architecture.params if architecture else None,
            "macs": architecture.macs if architecture else None,
            "input": list(header.input),
            "crop": header.crop,
            "output": deployed.exported.output,
            "length": deployed.exported.feature_dim,
            "max_difference_from_torch": max(d.features for d in deployed.exported.differences),
            "chosen_epoch": header.chosen_epoch.model_dump() if header.chosen_epoch else None,
        },
        "data": scored.facts,
        "calibration": {"images": len(calibration), "digest": samples_digest(calibration)},
        "models": models,
        "latency": {**times.record, "int8_times_as_fast": deployed.ratio},
    }


def _recipe(used: NetworkInUse) -> dict[str, Any] | None:
    """Return the configuration of the training, if it lies beside the weights."""
    config = used.source.with_name("config.yaml") if used.source else None
    return read_yaml(config) if config and config.exists() else None


def _write(out: Path, models: dict[str, bytes], record: dict[str, Any], card: str) -> None:
    program = Path(__file__).with_name(PROGRAM).read_text(encoding="utf-8")
    for name, content in models.items():
        with replacing(out / name) as partial:
            partial.write_bytes(content)
    write_text(out / PROGRAM, program)
    write_json(out / RECORD, record)
    write_text(out / CARD, card)
