"""What a trial has to do with NNI: its own parameters, its epochs, its result.

NNI 3.0 hands parameters to whichever trial asks first (training_service/v3/compat.js; issues 5693
and 5726), so that two trials swap theirs, and one that dies before it asks shifts those of all
later ones. A trial therefore never asks; it looks its parameters up by its own id, in the place
that the web page reads.
"""

import json
import math
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nni.runtime.trial_command_channel import get_default_trial_command_channel

from dcsnas.config.errors import UserError
from dcsnas.experiments.sweep import Parameters

PATIENCE_S = 120
"""The manager records a trial just after starting it; a loaded machine takes its time."""
# never through a proxy: the manager is on this machine, or on the user's own network
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Channel:
    """The trial's line to the manager; each epoch and the final result pass it once."""

    trial: str
    parameters: Parameters
    send: Callable[[str, int, dict[str, Any]], None]
    """Takes type (PERIODICAL or FINAL), sequence and values."""
    reported: set[int] = field(default_factory=set)
    """Epochs that the manager has, from before the trial was interrupted."""
    finished: bool = False

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Report an epoch, unless the manager has it."""
        if epoch not in self.reported:
            self.send("PERIODICAL", epoch, _finite(values))
            self.reported.add(epoch)

    def result(self, values: Mapping[str, Any]) -> None:
        """Report the final result, unless the manager has it."""
        if not self.finished:
            self.send("FINAL", 0, _finite(values))
            self.finished = True


def open_channel(manager: str) -> Channel:
    """Return the line to the manager at ``manager``, such as ``http://localhost:8080``.

    Raises UserError where the manager does not know this trial: it never runs with parameters that
    may be another's.
    """
    trial = os.environ.get("NNI_TRIAL_JOB_ID")
    if not trial:
        raise UserError("this is started by NNI; run: dcsnas experiment start SWEEP.yaml")
    record = json.loads(_wait_for(f"{manager}/api/v1/nni/trial-jobs/{trial}")["hyperParameters"][0])
    metrics = _get(f"{manager}/api/v1/nni/metric-data/{trial}")
    epochs = {metric["sequence"] for metric in metrics if metric["type"] == "PERIODICAL"}
    finished = any(metric["type"] == "FINAL" for metric in metrics)
    # nni.report_* take whichever line is current, and NNI's engine replaces it while a strategy
    # runs, so that a search's reports never arrive
    line = get_default_trial_command_channel()

    def send(kind: Any, sequence: int, values: dict[str, Any]) -> None:
        line.send_metric(kind, record["parameter_id"], trial, sequence, values)  # type: ignore[arg-type]

    return Channel(trial, record["parameters"], send, epochs, finished)


def _wait_for(url: str) -> dict[str, Any]:
    started = time.monotonic()
    while True:
        try:
            answer = _get(url)
            if answer.get("hyperParameters"):
                return answer
            problem = "no parameters yet"
        except (OSError, ValueError) as error:  # not recorded yet, or not listening yet
            problem = str(error)
        if time.monotonic() - started > PATIENCE_S:
            raise UserError(f"{url}: {problem}; the manager does not know this trial")
        time.sleep(0.2)


def _get(url: str) -> Any:
    with _OPENER.open(url, timeout=30) as answer:
        return json.load(answer)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON and the web page can show: no NaN, no infinity."""
    return {n: v for n, v in values.items() if not isinstance(v, float) or math.isfinite(v)}
