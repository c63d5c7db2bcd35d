"""The environment of every command, and of the processes that it starts: decided here alone.

Shells, notebooks and batch systems export variables for other programs, which the libraries here
read as well. A program of ours therefore begins with ``settle``: it starts itself over with what
``own_environment`` returns, so that Python, all libraries and all processes of its own see the
same. ``docs/environment.md`` says what is decided, and what stays the user's.
"""

import os
import pwd
import stat
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress

import dcsnas
from dcsnas.config.interrupts import SETTLED, ctrl_c_blocked

FIXED = {
    "MPLBACKEND": "agg",  # pictures go to files; a backend that is not there fails imports
    "PYTHONSAFEPATH": "1",  # no module of the current folder takes the place of another
    "PYTHONUTF8": "1",  # whatever the locale
}
TORCHRUN = (
    *("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT"),
)
"""What torchrun tells each process that it starts."""
LAUNCHERS = ("TORCHELASTIC_", "SLURM_", "JSM_", *TORCHRUN, "NODE_RANK", "GROUP_RANK")
"""Names, or their beginnings, of what launchers tell their processes, and shells pass on."""
FOREIGN = (
    *("PL_", "TIMM_", "TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "PYTORCH_JIT"),  # defaults
    *("PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONIOENCODING", "PYTHONOPTIMIZE", "PYTHONWARNINGS"),
    *("GIT_DIR", "GIT_WORK_TREE"),  # a run notes the commit of this package
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
WIDTHS = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
TEMPORARY = ("TMPDIR", "TEMP", "TMP")

_SOURCES = ("nni", "pytorch_lightning", "lightning_utilities", r"torch\.utils\.(_pytree|data)")


def settle() -> None:
    """Start this program over in its own environment, unless it is in it already.

    A standard stream that is missing is /dev/null from then on. Call it before anything else.
    """
    if SETTLED in os.environ:
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # a file that is opened takes the lowest number that is free: this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    environment = {**own_environment(os.environ), SETTLED: "1"}
    with ctrl_c_blocked():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def own_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return ``given`` without what is for other programs, or cannot be what was meant."""
    own = {name: value for name, value in given.items() if not _is_foreign(name, given)}
    for names, holds in ((THREADS, _is_cpu_count), (WIDTHS, _is_count), (TEMPORARY, _is_usable)):
        for name in names:
            if name in own and not holds(own[name]):
                del own[name]
    own["HOME"] = _home(given.get("HOME", ""))
    own["PYTHONPATH"] = os.pathsep.join(_search_path(given.get("PYTHONPATH", "")))
    return {**own, **FIXED}


def started_by_torchrun(environment: Mapping[str, str]) -> bool:
    """Return whether torchrun started this process; a part of its variables is a leftover."""
    return all(name in environment for name in TORCHRUN)


def allowed_cpus() -> int:
    """Return on how many CPUs this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet_libraries() -> None:
    """Silence warnings about NNI's torch version and Lightning's loaders in this process."""
    for source in _SOURCES:
        warnings.filterwarnings("ignore", module=source)
    # of convolutions with a single channel a group, when several processes share their gradients
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")


def _is_foreign(name: str, given: Mapping[str, str]) -> bool:
    torchrun = started_by_torchrun(given) and not name.startswith("SLURM_")
    return name.startswith(FOREIGN) or (name.startswith(LAUNCHERS) and not torchrun)


def _is_count(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def _is_cpu_count(text: str) -> bool:
    first = text.partition(",")[0]  # of nested levels
    return _is_count(first) and int(first) <= allowed_cpus()


def _is_usable(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def _home(given: str) -> str:
    """Return a home that can be written to: the one given, the user's, or one that stands in."""
    if _is_usable(given):
        return given
    with suppress(KeyError):  # a user whom the system does not know
        if _is_usable(known := pwd.getpwuid(os.getuid()).pw_dir):
            return known
    from tempfile import gettempdir, mkdtemp  # takes a while, and is rarely needed

    home = os.path.join(gettempdir(), f"dcsnas-home-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(home, 0o700)
    there = os.lstat(home)
    if stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid():
        return home
    return mkdtemp(prefix="dcsnas-home-")


def _search_path(given: str) -> list[str]:
    """Return the folders of ``given``, a PYTHONPATH, from which Python finds this very package.

    They are absolute, since processes run in several folders. An empty one, the current folder by
    accident, is left out.
    """
    named = [os.path.abspath(folder) for folder in given.split(os.pathsep)] if given else []
    kept = [os.path.abspath(folder) for folder in given.split(os.pathsep) if folder]
    # a program that is not started safely has its own folder, or the current one, before all others
    elsewhere = sys.path if sys.flags.safe_path else sys.path[1:]
    folders = [*kept, *(folder for folder in elsewhere if folder not in named)]
    own = os.path.dirname(os.path.dirname(os.path.abspath(dcsnas.__file__)))
    found = next((f for f in folders if os.path.isfile(f"{f}/dcsnas/__init__.py")), None)
    return kept if found == own else [own, *kept]
