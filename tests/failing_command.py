"""``dcsnas`` as a program of its own in which one process fails, or all of them do.

``FAILING=RANK:HOW python tests/failing_command.py ARGUMENTS``; RANK ``all`` is all, ``none`` none.
They fail in the second epoch of a retraining or pretraining, but for those that never begin.
"""

import os
import signal
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError

STEP = 8


def mistake(module: Any) -> None:
    raise UserError("people/gone.jpg: cannot be decoded")


def diverge(module: Any) -> None:
    for parameter in module.network.parameters():
        parameter.data.fill_(float("nan"))


def crash(module: Any) -> None:
    raise KeyError("our own mistake")


def die(module: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(module: Any) -> None:
    """Hang, while the other process makes a mistake, and learn of it soon."""
    if os.environ.get("LOCAL_RANK") == "1":
        mistake(module)
    ending: Any = import_module("dcsnas.training.process_failures")
    ending.PATIENCE_S = 0.5
    time.sleep(600)


HOW: dict[str, Callable[[Any], None]] = {
    how.__name__: how for how in (mistake, diverge, crash, die, hang)
}


def fail_in(kind: Any, how: str) -> None:
    """Have a module fail in place of a step."""
    training_step = kind.training_step

    def step_or_fail(self: Any, batch: Any, batch_idx: int) -> Any:
        if self.global_step == STEP:
            HOW[how](self)
        return training_step(self, batch, batch_idx)

    kind.training_step = step_or_fail


if __name__ == "__main__":
    rank, how = os.environ["FAILING"].split(":")
    if rank in ("all", os.environ.get("LOCAL_RANK", "0")):
        if how == "never begin":
            raise SystemExit("error: there is something else here")
        # here, because loaders' workers import this file too
        fail_in(import_module("dcsnas.training.module").TaskModule, how)
    run()
