"""What must hold of a run on two hosts: undisturbed, and where one of them vanishes.

Each case returns what is wrong, nothing where all is well, and may be repeated under other names.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hosts.network import Host
from hosts.runs import (
    LEFT_S,
    STAGES,
    Ended,
    Together,
    epochs_of,
    run_stage,
    stage_command,
    states_of,
)

EPOCH_S = 1.0
"""How long a process sleeps after each epoch in a run that is disturbed."""
KINDS = ("equal", "cut", "kill")


@dataclass
class Case:
    """One case and its outcome."""

    kind: str
    stage: str
    seed: int
    lost: str = ""
    """The host that vanishes."""
    seconds_left: float = 0.0
    """For the other to end, from then on."""
    message: str = ""
    """Of the host that is left."""
    wrong: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**asdict(self), "seconds_left": round(self.seconds_left, 1)}


def run_case(hosts: Sequence[Host], folder: Path, kind: str, seed: int, reference: str) -> Case:
    """Run the case of ``seed``; ``reference`` is the beginning of the undisturbed runs' names."""
    stage = STAGES[seed % len(STAGES)]
    case = Case(kind, stage, seed)
    name = f"{kind}-{seed}"
    if kind == "equal":
        case.wrong += _unfinished(run_stage(hosts, stage, folder, name))
    else:
        _disturb(case, hosts, folder, name)
        if not case.wrong:
            case.wrong += _unfinished(run_stage(hosts, stage, folder, name))
    if not case.wrong:
        case.wrong += differences(folder, name, f"{reference}-{stage}")
    return case


def _disturb(case: Case, hosts: Sequence[Host], folder: Path, name: str) -> None:
    """Begin a run and take a host away at a random moment; note how the other ends."""
    draw = random.Random(case.seed)
    lost = hosts[draw.randrange(len(hosts))]
    epoch, moment = draw.randint(1, 2), draw.uniform(0, EPOCH_S)
    case.lost = lost.name
    running = Together(
        hosts, stage_command(case.stage, folder, name), folder, name, epoch_s=EPOCH_S
    )
    running.wait_until(lambda: epochs_of(folder, name) >= epoch)
    time.sleep(moment)
    lost.cut() if case.kind == "cut" else lost.kill()
    ended = dict(zip((host.name for host in hosts), running.end(LEFT_S), strict=True))
    lost.join()
    for name, end in ended.items():
        if name != lost.name:
            case.seconds_left, case.message = end.seconds, "; ".join(end.errors)
        # a host whose cable is cut is left alone as well
        if name != lost.name or case.kind == "cut":
            other = next(n for n in ended if n != name)
            case.wrong += [f"{name}: {problem}" for problem in ill_ended(end, other)]


def ill_ended(end: Ended, lost: str) -> list[str]:
    """Return what is wrong with how a host ended that has lost another."""
    wrong = []
    if end.code != 2:
        wrong.append(f"exit code {end.code}")
    if len(end.errors) != 1 or lost not in end.errors[0]:
        wrong.append(f"not one message that names {lost}: {end.errors}")
    if "Traceback" in end.output or end.output.splitlines()[-1:] != end.errors[-1:]:
        wrong.append(f"more than a message: {end.output[-2000:]}")
    return wrong


def _unfinished(ends: Sequence[Ended]) -> list[str]:
    return [f"exit code {end.code}: {end.output[-2000:]}" for end in ends if end.code]


def differences(folder: Path, name: str, reference: str) -> list[str]:
    """Return how a run's states differ from those of ``reference``, bit by bit, and its log."""
    wrong = []
    for rank, found in enumerate(states_of(folder, name)):
        expected = states_of(folder, reference)[rank]
        differs = [key for key in expected if not torch.equal(found[key], expected[key])]
        if differs or found.keys() != expected.keys():
            wrong.append(f"process {rank} ends with other values of {differs or 'other names'}")
    logs = [(folder / run / "metrics.jsonl").read_text() for run in (name, reference)]
    if logs[0] != logs[1]:
        wrong.append("metrics.jsonl differs")
    return wrong
