"""One trial of a sweep: a whole search, and what is made of the network that it finds.

NNI starts it as ``python -P -m dcsnas.experiments.trial FOLDER PLUGIN ...``. Stages that finished
are not repeated when a trial is continued, and one that was stopped continues from its last epoch.
"""

import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcsnas.config.environment import quiet_libraries, settle
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml, write_json, write_text, write_yaml
from dcsnas.config.outputs import LOCK, held
from dcsnas.config.plugins import load_named
from dcsnas.config.runs import RunFolder
from dcsnas.experiments.folder import ERROR, STDERR, ExperimentFolder
from dcsnas.experiments.process import end_with_manager, gpu_slot
from dcsnas.experiments.settings import retrain_of
from dcsnas.experiments.sweep import RESULTS, Parameters, SweepConfig
from dcsnas.spaces.units import MB

if TYPE_CHECKING:
    from dcsnas.config.search import SearchConfig
    from dcsnas.config.stages import TrainConfig
    from dcsnas.experiments.channel import Channel
    from dcsnas.spaces.architecture import ArchitectureFile

ENDING_S = 60
"""For a trial that is run again to wait for the end of the process that ran it before."""
STOP = "wait until it ends, or stop it"
MEASURING_S = 3600
"""For the trials before it to be measured."""


def main(folder: ExperimentFolder) -> None:
    """Run the trial that NNI's environment variables name, in ``folder``."""
    from dcsnas.experiments.channel import open_channel

    sweep = folder.sweep()
    channel = open_channel(folder.trial_url)
    path = folder.trial(channel.trial)
    slots = gpu_slot(folder.path / "locks", sweep.gpus, sweep.trials_per_gpu)
    alone = held(path / LOCK, of=path, otherwise=STOP, patience_s=ENDING_S)
    with alone, slots, _error_kept(path / STDERR):
        write_json(path / "parameters.json", channel.parameters)
        channel.result(run_trial(sweep, path, channel))


@contextmanager
def _error_kept(path: Path) -> Iterator[None]:
    """Leave an error in ``path``: NNI keeps what a trial printed on the machine that it ran on."""
    path.unlink(missing_ok=True)
    try:
        yield
    except UserError as error:
        write_text(path, f"{ERROR}{error}\n")
        raise
    except Exception:
        write_text(path, traceback.format_exc())
        raise


def run_trial(sweep: SweepConfig, path: Path, channel: "Channel") -> dict[str, Any]:
    """Run all stages in ``path`` and return what the web page and the report show.

    ``result.json`` holds the same.
    """
    finished = path / "result.json"
    if finished.exists():
        return read_json(finished)
    from dcsnas.tasks.task import find_task

    metric = find_task(sweep.search.task).metric
    search = _search(sweep, path, channel, metric)
    found = _derive(path)
    if f"validation_{metric}" in search:
        # the derived network is within a target; the most probable one may be slower
        search |= _score(path, found, metric)
    result: dict[str, Any] = {
        **search,
        "predicted_ms": found.provenance.predicted_latency_ms,
        "params_m": found.params / 1e6,
        "macs_g": found.macs / 1e9,
        "memory_mb": found.network.memory(found.input) / MB,
    }
    if retraining := retrain_of(sweep, channel.parameters):
        result |= _retrain(retraining, path, found)
    if sweep.measure:
        result["measured_ms"] = _measure(path, found)
    score = result[metric if sweep.retrain else f"validation_{metric}"]
    if not math.isfinite(score):
        raise UserError(f"{path}: the score is {score}: the training diverged; lower its rate")
    ran = {f"ran_{name}": value for name, value in channel.parameters.items()}
    result = {"default": score, **result, **ran}
    write_json(finished, result)
    return result


def _config(sweep: SweepConfig, parameters: Parameters, path: Path) -> "SearchConfig":
    """Return the search's configuration; a space with changed attention is written for it."""
    from dcsnas.experiments.trial_inputs import trial_inputs

    inputs = trial_inputs(sweep, parameters)
    if not inputs.space_is_changed:
        return inputs.config
    written = path / "space.yaml"
    write_yaml(written, inputs.space.file.model_dump(mode="json"))
    return inputs.config.model_copy(update={"space": str(written)})


def _search(sweep: SweepConfig, path: Path, channel: "Channel", metric: str) -> dict[str, Any]:
    from dcsnas.config.jsonl import read_records
    from dcsnas.experiments.epochs import EpochReport
    from dcsnas.search.cost_terms import target_of
    from dcsnas.search.run import search

    folder = RunFolder(path / "search")
    if not (folder.path / "result.json").exists():
        search(
            _config(sweep, channel.parameters, path),
            folder,
            allow_foreign=sweep.allow_foreign,
            allow_disturbed=sweep.allow_disturbed,
            progress=False,
            callbacks=[EpochReport(channel)],
        )
    result = read_json(folder.path / "result.json")
    last = read_records(folder.metrics)[-1]
    objective = read_yaml(folder.config)["objective"]
    values = {
        f"validation_{metric}": result.get(metric, last.get(f"validation/{metric}")),
        "target_ms": target_of(objective, "latency"),
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


def _score(path: Path, found: "ArchitectureFile", metric: str) -> dict[str, float]:
    from dcsnas.search.derived_weights import score_derived

    (scores,) = score_derived(path / "search", [found])
    return {f"validation_{name}": scores[name] for name in (metric, *RESULTS) if name in scores}


def _retrain(config: "TrainConfig", path: Path, found: "ArchitectureFile") -> dict[str, float]:
    from dcsnas.evaluation.record import save_report
    from dcsnas.tasks.task import evaluate, find_task, read_data
    from dcsnas.training.train import train

    task = find_task(config.task)
    metrics = path / "retrain" / "metrics.json"
    if not metrics.exists():
        supernet = path / "search" / "supernet.safetensors"
        folder = RunFolder(path / "retrain")
        trained = train(config, found, folder, stage="retrain", start=supernet, progress=False)
        report = evaluate(
            trained.weights,
            read_data(task, config.data),
            device=config.run.device,
            workers=config.data.workers,
            threads=config.run.threads,
        )
        save_report(metrics, report, {})
    measured = read_json(metrics)
    return {name: measured[name] for name in (task.metric, *RESULTS) if name in measured}


def _measure(path: Path, found: "ArchitectureFile") -> float:
    """Return the latency of the network here, as its prediction was made; one trial at a time."""
    from dcsnas.evaluation.speed import comparable_ms, measure_like_tables

    latency = path / "latency.json"
    if not latency.exists():
        lock = path.parent / "measuring.lock"
        with held(lock, of=lock, otherwise=STOP, patience_s=MEASURING_S):
            (record,) = measure_like_tables([(found, path / "search" / "table.json")])
        write_json(latency, record)
    return comparable_ms(read_json(latency))


if __name__ == "__main__":
    settle()  # on another machine nobody has done so
    end_with_manager()
    quiet_libraries()
    try:
        load_named(sys.argv[2:])
        main(ExperimentFolder(Path(sys.argv[1])))
    except UserError as error:
        print(f"{ERROR}{error}", file=sys.stderr)
        sys.exit(2)
