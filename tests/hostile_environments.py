"""Environments that other programs leave behind, and commands as they are started in them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOBODY: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}
"""A user whom the system does not know."""
PROGRAM = """
from dcsnas.__main__ import main
if __name__ == "__main__":
    main()
"""
"""As pip writes it."""
POISON = "raise SystemExit('a module of the current folder was imported')\n"
SHADOWS = ("random.py", "torch.py", "yaml.py", "dcsnas/__init__.py", "nni/__init__.py")
CLOSED = 'exec "$@" <&- >&- 2>&-'
CLEAN = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Hostile:
    """What is set, files of the current folder, a shell's line, and whether the user is unknown."""

    variables: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    shell: str = 'exec "$@"'
    unknown: bool = False

    def __or__(self, other: "Hostile") -> "Hostile":
        variables = {**self.variables, **other.variables}
        shell = other.shell if "<" in other.shell else self.shell
        return Hostile(variables, (*self.files, *other.files), shell, self.unknown or other.unknown)


HOSTILE = {
    "MPLBACKEND": Hostile({"MPLBACKEND": "module://no_such_inline.backend"}),
    "Slurm": Hostile(
        {
            **{"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"},
            **{"SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NODEID": "0"},
        }
    ),
    "torchrun": Hostile(
        {
            **{"TORCHELASTIC_RUN_ID": "left", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
            **{"MASTER_ADDR": "gone.invalid", "MASTER_PORT": "port", "NODE_RANK": "1"},
        }
    ),
    "Lightning": Hostile({"PL_TRAINER_FAST_DEV_RUN": "1", "PL_GLOBAL_SEED": "x"}),
    "current folder": Hostile(files=SHADOWS),
    "PYTHONPATH": Hostile({"PYTHONPATH": f":{ROOT}"}, SHADOWS[:3]),
    "streams": Hostile(shell=CLOSED),
    "home": Hostile({"HOME": "/nonexistent"}, unknown=True),
    "threads": Hostile(
        {
            **{"OMP_NUM_THREADS": "many", "MKL_NUM_THREADS": "0"},
            **{"OPENBLAS_NUM_THREADS": "100000", "NUMEXPR_NUM_THREADS": "-1"},
        }
    ),
    "locale": Hostile({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "terminal": Hostile(
        {"COLUMNS": "0", "LINES": "x", "TERM": "nonsense", "TERMINAL_WIDTH": "wide"}
    ),
    "Python": Hostile(
        {
            **{"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONHASHSEED": "7"},
            **{"PYTHONDEVMODE": "1", "PYTHONINSPECT": "1", "PYTHONIOENCODING": "ascii"},
        }
    ),
    "TMPDIR": Hostile({"TMPDIR": "/nonexistent", "TMP": "/proc"}),
}
EVERYTHING = reduce(or_, HOSTILE.values()) | Hostile({"PYTHONPATH": f"{ROOT}:"})
"""All at once; an empty folder before ours in PYTHONPATH would be where dcsnas comes from."""


def run_in(
    folder: Path, arguments: tuple[str, ...], hostile: Hostile
) -> subprocess.CompletedProcess[str]:
    """Run ``dcsnas ARGUMENTS`` as an installed program in ``folder``."""
    program = folder.parent / "bin" / "dcsnas"
    program.parent.mkdir(exist_ok=True)
    program.write_text(PROGRAM)
    for file in hostile.files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(POISON)
    home = {} if hostile.unknown else {"HOME": str(folder.parent)}
    whom = NOBODY if hostile.unknown and runs_as_nobody() else {}
    return subprocess.run(
        ["sh", "-c", hostile.shell, "sh", sys.executable, str(program), *arguments],
        cwd=folder,
        env={**CLEAN, **home, **hostile.variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **whom,
    )


@cache
def runs_as_nobody() -> bool:
    """Return whether this process can start Python as that user: root can, where it lies open."""
    try:
        command = [sys.executable, "-c", "import dcsnas"]
        return subprocess.run(command, env=CLEAN, check=False, **NOBODY).returncode == 0
    except OSError:
        return False


@contextmanager
def open_copy(work: Path) -> Iterator[Path]:
    """Yield a copy of ``work`` that everybody may enter and write to."""
    with tempfile.TemporaryDirectory(prefix="dcsnas-hostile-") as root:
        folder = Path(root) / "work"
        shutil.copytree(work, folder)
        for path in (Path(root), folder, *folder.rglob("*")):
            path.chmod(0o777)
        yield folder
