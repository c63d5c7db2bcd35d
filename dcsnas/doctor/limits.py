"""The limits of the control group that this process is in: CPU time and memory.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max), and cgroup-v1
(cpu.cfs_quota_us, memory.limit_in_bytes). A limit of a group above holds too.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NO_LIMIT = 1 << 60
"""Bytes from which on version 1 means that there is none."""


def cpu_limit(root: Path = Path("/")) -> float | None:
    """Return how many CPUs' time the group may use, None without a limit.

    ``root`` is where /proc and /sys are.
    """
    found = []
    for folder in _folders(root, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        found += _ratio(quota, period)
    for folder in _folders(root, "cpu"):
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        found += _ratio(quota, period)
    return min(found, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes the group may use, None without a limit."""
    texts = [_text(folder / "memory.max") for folder in _folders(root, "")]
    texts += [_text(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    limits = [int(text) for text in texts if text.isdecimal()]
    return min((limit for limit in limits if limit < NO_LIMIT), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and those above it; of version 2 without a name."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup"
        mounted = top / names if (top / names).is_dir() else top / controller
        # in a container the path is that of the host, and its files are at the top
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            yield mounted / str(part).lstrip("/")


def _ratio(quota: str, period: str) -> list[float]:
    """Return the share of CPUs of a quota, nothing of ``max``, -1 or what is not there."""
    if quota.isdecimal() and period.isdecimal() and int(period):
        return [int(quota) / int(period)]
    return []


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
