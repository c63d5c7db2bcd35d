"""What stages on hosts do beside their work, by ``--plugin``: keep their state, take their time.

``HOSTS_STATE`` is where a process leaves its module's state at the end, its rank added;
``HOSTS_EPOCH_S`` how long it sleeps after every epoch, before the checkpoint.
"""

import os
import time
from pathlib import Path
from typing import Any

from dcsnas.training.trainer import EpochLog
from distributed_worker import keep_last_state


def sleep_after_epochs(seconds: float) -> None:
    """Have every process sleep when an epoch is logged."""
    log = EpochLog.on_train_epoch_end

    def log_and_sleep(self: Any, *arguments: Any) -> None:
        log(self, *arguments)
        time.sleep(seconds)

    EpochLog.on_train_epoch_end = log_and_sleep  # type: ignore[method-assign]


state = Path(os.environ["HOSTS_STATE"])
keep_last_state(state.parent, state.name)
sleep_after_epochs(float(os.environ.get("HOSTS_EPOCH_S", "0")))
