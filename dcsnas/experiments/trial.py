"""One trial of a sweep: a whole search, and what is made of the network that it finds.

NNI starts it as ``python -m dcsnas.experiments.trial FOLDER``. Stages that finished are not
repeated when a trial is continued, and one that was stopped continues from its last epoch.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json, write_yaml
from dcsnas.config.runs import RunFolder
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.process import end_with_manager, gpu_slot, locked
from dcsnas.experiments.sweep import SweepConfig, search_of

if TYPE_CHECKING:
    from dcsnas.config.search import SearchConfig
    from dcsnas.experiments.channel import Channel
    from dcsnas.spaces.architecture import ArchitectureFile


def main(folder: ExperimentFolder) -> None:
    """Run the trial that NNI's environment variables name, in ``folder``."""
    from dcsnas.experiments.channel import open_channel

    sweep = folder.sweep()
    channel = open_channel(folder.trial_url)
    path = folder.trial(channel.trial)
    slots = gpu_slot(folder.path / "locks", sweep.gpus, sweep.trials_per_gpu)
    with locked(path / "trial.lock"), slots:
        write_json(path / "parameters.json", channel.parameters)
        channel.result(run_trial(sweep, path, channel))


def run_trial(sweep: SweepConfig, path: Path, channel: "Channel") -> dict[str, Any]:
    """Run all stages in ``path`` and return what the web page and the report show.

    ``result.json`` holds the same.
    """
    finished = path / "result.json"
    if finished.exists():
        return read_json(finished)
    config, attention = search_of(sweep, channel.parameters)
    if attention:
        config = config.model_copy(update={"space": _space_with(config, attention, path)})
    search = _search(sweep, config, RunFolder(path / "search"), channel)
    found = _derive(path)
    result: dict[str, Any] = {
        **search,
        "predicted_ms": found.provenance.predicted_latency_ms,
        "params_m": found.params / 1e6,
        "macs_g": found.macs / 1e9,
    }
    if sweep.retrain:
        result |= _retrain(sweep, path, found)
    if sweep.measure:
        result["measured_ms"] = _measure(path, found)
    score = result["map"] if sweep.retrain else result["validation_map"]
    ran = {f"ran_{name}": value for name, value in channel.parameters.items()}
    result = {"default": score, **result, **ran}
    write_json(finished, result)
    return result


def _space_with(config: "SearchConfig", attention: str, path: Path) -> str:
    """Write the searched space with the attention that a parameter names, return its path."""
    from dcsnas.spaces.shipped import find_space
    from dcsnas.spaces.space import SearchSpace

    space = SearchSpace.load(find_space(config.space)).with_attention(attention)
    written = path / "space.yaml"
    write_yaml(written, space.file.model_dump(mode="json"))
    return str(written)


def _search(
    sweep: SweepConfig, config: "SearchConfig", folder: RunFolder, channel: "Channel"
) -> dict[str, Any]:
    from dcsnas.config.jsonl import read_records
    from dcsnas.experiments.epochs import EpochReport
    from dcsnas.search.run import search

    if not (folder.path / "result.json").exists():
        report = EpochReport(channel)
        search(
            config,
            folder,
            allow_foreign=sweep.allow_foreign,
            progress=False,
            callbacks=[report],
        )
    result = read_json(folder.path / "result.json")
    last = read_records(folder.metrics)[-1]
    score = result.get("map", last.get("validation/map"))
    values = {
        "validation_map": score,
        "expected_ms": result["final_latency_ms"],
        "entropy": last.get("entropy"),
    }
    return {name: value for name, value in values.items() if value is not None}


def _derive(path: Path) -> "ArchitectureFile":
    from dcsnas.search.derive import derive
    from dcsnas.spaces.architecture import save_architecture

    found = derive(path / "search")
    save_architecture(path / "architecture.yaml", found)
    return found


def _retrain(sweep: SweepConfig, path: Path, found: "ArchitectureFile") -> dict[str, float]:
    from dcsnas.evaluation.evaluate import evaluate, save_evaluation
    from dcsnas.training.retrain import retrain

    assert sweep.retrain
    metrics, config = path / "retrain" / "metrics.json", sweep.retrain
    if not metrics.exists():
        supernet = path / "search" / "supernet.safetensors"
        folder = RunFolder(path / "retrain")
        trained = retrain(config, found, folder, start=supernet, progress=False)
        root, workers = config.data.root, config.data.workers
        device = config.run.device
        scores = evaluate(
            trained.weights,
            root,
            variant=config.data.variant,
            device=device,
            workers=workers,
            threads=config.run.threads,
        )
        save_evaluation(metrics, scores, root, {})
    scores = read_json(metrics)
    return {"map": scores["map"], "rank1": scores["rank1"]}


def _measure(path: Path, found: "ArchitectureFile") -> float:
    """Return the latency of the network here, as its prediction was made; one trial at a time."""
    from dcsnas.experiments.measuring import measure

    latency = path / "latency.json"
    if not latency.exists():
        with locked(path.parent / "measuring.lock"):
            (record,) = measure([found], path / "search" / "table.json")
        write_json(latency, record)
    return read_json(latency)["measured_ms"]


if __name__ == "__main__":
    from dcsnas.config.quiet import quiet_libraries

    end_with_manager()
    quiet_libraries()
    try:
        main(ExperimentFolder(Path(sys.argv[1])))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
