"""What proposes parameters, within NNI's dispatcher process.

NNI's own grid and random tuners do not know, after a resume, which trials had been started: they
propose some again and so never reach others. These read it from NNI's database. And where a manager
is killed, NNI's dispatcher goes on and joins whichever manager next listens on the same port, even
another experiment's, to which it proposes its own parameters; and where a tuner raises, NNI's
dispatcher logs it and does nothing ever after. With these it ends.
"""

import logging
import os
from pathlib import Path
from typing import Any, Never

import nni
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.runtime.msg_dispatcher_base import MsgDispatcherBase
from nni.tuner import Tuner

from dcsnas.experiments.database import Database
from dcsnas.experiments.process import watch_manager
from dcsnas.experiments.sweep import Parameters

DRAWN_FIRST = 5
"""Trials whose parameters TPE draws blindly; NNI's 20 are more searches than many sweeps have."""


def _end_in_time() -> None:
    """End this process, the dispatcher, when its manager is no more or a command fails."""
    watch_manager(_end)
    process = MsgDispatcherBase.process_command

    def process_or_end(*command: Any) -> None:
        try:
            process(*command)
        except Exception:
            logging.getLogger("nni").exception("the tuner failed")
            _end()

    MsgDispatcherBase.process_command = process_or_end  # type: ignore[method-assign]


def _end() -> Never:
    os._exit(1)


class Planned(Tuner):
    """Proposes the sets of parameters of a plan in order, each exactly once."""

    def __init__(self, plan: list[Parameters], database: str) -> None:
        _end_in_time()
        self.left = list(plan)
        for trial in Database(Path(database)).trials():
            if trial.parameters in self.left:
                self.left.remove(trial.parameters)

    def update_search_space(self, search_space: Any) -> None:
        """Nothing follows from it."""

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> Parameters:
        """Return the next set; raises NoMoreTrialError at the end of the plan."""
        if not self.left:
            raise nni.NoMoreTrialError("the plan is done")
        return self.left.pop(0)

    def receive_trial_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing follows from it."""


class Tpe(TpeTuner):
    """NNI's TPE, maximising, whose draws do not start over when an experiment is resumed."""

    def __init__(self, seed: int, database: str) -> None:
        _end_in_time()
        started = len(Database(Path(database)).trials())
        super().__init__(
            optimize_mode="maximize",
            seed=1_000_003 * seed + started,
            tpe_args={"n_startup_jobs": DRAWN_FIRST},
        )
