"""Plugins: modules that register backbones, attention kinds, tasks and the like when imported.

The package's own zoo is the first of them. Others are named by ``dcsnas --plugin MODULE``, or come
with an installed package as an entry point of the group ``dcsnas.plugins``. No file of ours names
one: files may come from anywhere, and nothing that is read may execute code.
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import entry_points
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from dcsnas.config.errors import UserError
from dcsnas.config.interrupts import ctrl_c_for_this_process

T = TypeVar("T")

OWN = ("dcsnas.zoo",)
"""What registers without being asked to, once a name is looked for that is not built in."""
GROUP = "dcsnas.plugins"

named: list[str] = []
"""The modules that were named on the command line, for the processes that this one starts."""


def load_named(modules: Sequence[str]) -> None:
    """Import ``modules`` and note them; raises UserError where one cannot be imported.

    They may lie in the current folder, which is looked in last, so that its other files, such as a
    ``random.py``, are nobody's modules.
    """
    if modules and "" not in sys.path:
        sys.path.append("")
    for module in modules:
        _import(module, f"--plugin {module}")
        _refuse_another(module)
        if module not in named:
            named.append(module)


@cache
def load_installed() -> None:
    """Import the package's own plugins and those of installed packages, once a process."""
    for module in OWN:
        importlib.import_module(module)
    for point in entry_points(group=GROUP):
        _import(point.value, f"plugin {point.name} of an installed package")


def registered(registry: Mapping[str, T], name: Any, kind: str) -> T:
    """Return what ``registry`` has under ``name``, which may take loading installed plugins.

    Raises UserError with the known names, each of them that of a ``kind``.
    """
    if name not in list(registry):  # whatever a file holds, lists too
        load_installed()
    if name not in list(registry):
        raise UserError(
            f"{kind} {name!r} is none of {', '.join(registry)}; where another package adds it, "
            "name the module that does: dcsnas --plugin MODULE"
        )
    return registry[name]


def new_processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of new processes, in which the modules named here are imported first.

    They end soon after this process, however it ends; Ctrl-C is for this process alone.
    """
    return _Pool(
        count,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(tuple(named),),
    )


class _Pool(ProcessPoolExecutor):
    """A pool whose processes never hear of Ctrl-C, not even while they import."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Submit a call, which may start the processes: they inherit which signals are blocked."""
        with ctrl_c_for_this_process():
            return super().submit(fn, *args, **kwargs)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """End the processes, at once where it is by Ctrl-C: nobody waits for their results."""
        if kind is not None and not issubclass(kind, Exception):
            for process in list((self._processes or {}).values()):
                process.terminate()
        super().__exit__(kind, error, trace)


def _begin(modules: Sequence[str]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_named(modules)


def _end_with_parent() -> None:
    """End this process after the one that started it: the pool's own would wait for work forever.

    By SIGTERM, on which a training writes its checkpoint, and in any case after GRACE_S.
    """
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


GRACE_S = 30.0
"""For a step of a training and its checkpoint."""


def _refuse_another(module: str) -> None:
    """Raise UserError where a module of the current folder is hidden by another of its name."""
    name = module.partition(".")[0]
    file = getattr(sys.modules[name], "__file__", None)
    for here in (Path(f"{name}.py"), Path(name, "__init__.py")):
        if here.exists() and not (file and here.samefile(file)):
            raise UserError(
                f"--plugin {module}: {here} is hidden by {file or 'a module of Python itself'}, "
                "which has the same name; give it another"
            )


def _import(module: str, where: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever another's module raises
        raise UserError(
            f"{where}: cannot be imported ({type(error).__name__}: {error}); give the name of a "
            "module that Python finds, such as package.module, and correct it where it fails"
        ) from error
