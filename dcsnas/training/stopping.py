"""Asking a run to stop between two steps: SIGTERM, as batch systems send it, or SIGINT, Ctrl-C."""

import signal
import threading
from types import FrameType

DEFAULTS = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


class StopRequest:
    """Notes the first signal; a second one ends the process at once.

    Whoever handled a signal before this object was made goes on to handle it.
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal, 0 where there was none."""
        self._free = [
            number for number, default in DEFAULTS.items() if signal.getsignal(number) == default
        ]

    def listen(self) -> None:
        """Begin to listen; Lightning puts the handlers back when its trainer ends."""
        if threading.current_thread() is threading.main_thread():
            for number in self._free:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for each in self._free:
            signal.signal(each, signal.SIG_DFL)
