"""torchrun for the commands of dcsnas: its arguments, and one message where a run fails.

``python -m dcsnas.torchrun --nnodes 2 ... -m dcsnas search ...``, on every machine.
"""

import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dcsnas.config.environment import settle
from dcsnas.config.errors import UserError
from dcsnas.config.last_word import LAST_WORD, say

READ_S = 20
"""For torchrun to wait for an answer of the machine where all meet; it would wait 60."""
ENDING_S = 8.0
"""For torchrun to end after a process of the run has said why."""
_POLL_S = 0.5


def main() -> None:
    """Run torchrun; its exit code is that of the process that failed, or 2."""
    settle()
    logging.disable(logging.CRITICAL)  # what torchrun logs of a failure is told here
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # names that no server knows
    from torch.distributed import run

    given = run.parse_args(["--rdzv-conf", f"read_timeout={READ_S}", *sys.argv[1:]])
    with TemporaryDirectory(prefix="dcsnas-") as folder:
        word = Path(folder) / "last-word"
        os.environ[LAST_WORD] = str(word)
        if given.max_restarts:
            # or processes that start over find the addresses of those before them, and call there
            os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        else:
            threading.Thread(target=_end_after, args=[word], daemon=True).start()
        try:
            code = _run(run.run, given)
        except UserError as error:
            say(str(error))
            code = 2
    sys.exit(code)


def _run(run: Any, given: Any) -> int:
    """Return torchrun's exit code, its processes saying why; raises UserError where none can."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    try:
        run(given)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = failure.signal_name()
        raise UserError(
            f"a process of this run was ended by {name}; was there too little memory?"
        ) from error
    except SignalException as error:
        return 128 + error.sigval
    except RendezvousError as error:
        where = given.rdzv_endpoint or f"{given.master_addr}:{given.master_port}"
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"{where}, where the machines of this run meet: {reason}; see that all machines run "
            "this command and reach each other, and run it again"
        ) from error
    return 0


def _end_after(word: Path) -> None:
    """End this process some time after the last word, if torchrun still waits for an answer."""
    while not word.exists():
        time.sleep(_POLL_S)
    time.sleep(ENDING_S)
    shutil.rmtree(word.parent, ignore_errors=True)
    os._exit(2)


if __name__ == "__main__":
    main()
