"""Ctrl-C: it ends a command at once, or as an exception where something is to be put right first.

Python raises KeyboardInterrupt wherever it happens to be. In an import that breaks a library, and
in a finalizer, after a fork or at exit it is lost: the command goes on, or prints a traceback.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SETTLED = "DCSNAS_SETTLED"
"""The variable by which a process knows that its environment is decided: it was started over."""
STOPPED = 128 + signal.SIGINT
"""Exit code of a command that Ctrl-C ended, as a shell says it."""
PATIENCE_S = 5.0
"""After Ctrl-C, for what is to be put right; then the process ends all the same."""
_AGAIN_S = 0.02


class Interruption(KeyboardInterrupt):
    """What Ctrl-C raises; the process ends unless it is ``answered``."""

    answered = False


def answer(interrupt: KeyboardInterrupt) -> None:
    """Have the process go on as long as it likes, since Ctrl-C has been heard."""
    if isinstance(interrupt, Interruption):
        interrupt.answered = True


def ctrl_c_ends() -> None:
    """Have Ctrl-C end this process at once, also one that came while it was started over."""
    if not _in_main_thread():
        return
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if SETTLED in os.environ:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def ctrl_c_raises(said: str = "") -> Iterator[None]:
    """Have Ctrl-C raise ``Interruption`` in the block, where something must be put right after it.

    Where it gets lost it comes again, and after PATIENCE_S the process ends, having ``said`` what
    there is to say. Repeated, it ends the process at once. Within another such block, and where
    Ctrl-C is handled in another way, nothing changes.
    """
    found = signal.getsignal(signal.SIGINT) if _in_main_thread() else None
    if isinstance(found, _Raises):
        found.said = said or found.said
        with found.kept():
            yield
    elif found == signal.SIG_DFL:
        handler = _Raises(said)
        with handler.installed(), handler.kept():
            yield
    else:
        yield


@contextmanager
def ctrl_c_for_this_process() -> Iterator[None]:
    """Have Ctrl-C come after the block, and never to the processes that it starts."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # or it is started in between, and unblocks Ctrl-C
    with ctrl_c_blocked():
        yield


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Have Ctrl-C come after the block; a program that takes this one's place has it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_free(number: int) -> bool:
    """Return whether nobody but Python and this module has said what a signal is to do here."""
    found = signal.getsignal(number)
    free = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    return found == free[signal.Signals(number)] or isinstance(found, _Raises)


class _Raises:
    """A handler of Ctrl-C that raises ``Interruption``, and sees to it that the process ends."""

    def __init__(self, said: str) -> None:
        self.said = said
        self._raised: Interruption | None = None
        self._lost = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._raised and not self._lost:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not self._raised:
            self._raised = Interruption()
            self._in_thread(self._end, PATIENCE_S)
        self._lost = False
        raise self._raised

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be the handler in the block, and hear of exceptions that get lost."""
        unraisable, sys.unraisablehook = sys.unraisablehook, self._lose
        signal.signal(signal.SIGINT, self)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) == self:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            if sys.unraisablehook == self._lose:
                sys.unraisablehook = unraisable

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise what this has raised in place of an error that a library has made of it."""
        try:
            yield
        except Exception:
            if self._raised and not self._raised.answered:
                raise self._raised from None
            raise

    def _lose(self, unraisable: Any) -> None:
        """Take the place of Python's hook for exceptions that cannot go anywhere."""
        if isinstance(unraisable.exc_value, Interruption):
            self._lost = True
            self._in_thread(self._again, _AGAIN_S)
        else:
            sys.__unraisablehook__(unraisable)

    def _again(self) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _end(self) -> None:
        if self._raised and not self._raised.answered:
            with suppress(OSError, ValueError):
                print(self.said, end="\n" if self.said else "", file=sys.stderr, flush=True)
            os._exit(STOPPED)

    @staticmethod
    def _in_thread(act: Any, after_s: float) -> None:
        """Act in a thread that takes no lock to start: the main thread may hold any now."""
        with suppress(RuntimeError):
            _thread.start_new_thread(lambda: (time.sleep(after_s), act()), ())


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
