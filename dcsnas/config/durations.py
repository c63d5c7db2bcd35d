"""How long something takes, for people."""


def duration(seconds: float) -> str:
    """Return a rough time: whole seconds below two minutes, whole minutes from there."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
