"""How long something takes, for people."""

import time


def duration(seconds: float) -> str:
    """Return a rough time: whole seconds below two minutes, whole minutes from there."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class TimeLeft:
    """Guesses from those that are over how long the rest of ``count`` alike will take."""

    def __init__(self, count: int) -> None:
        self.count, self.done, self.began = count, 0, time.monotonic()

    def after_one_more(self) -> str:
        """Return how many are to go once another is over, to be said after it; empty at the end."""
        self.done += 1
        left = self.count - self.done
        seconds = (time.monotonic() - self.began) / self.done * left
        return f"; {left} to go, about {duration(seconds)}" if left else ""
