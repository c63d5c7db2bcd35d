"""Arguments and options that several commands share."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dcsnas.config.errors import UserError
from dcsnas.config.files import yaml_text
from dcsnas.config.interrupts import STOPPED, ctrl_c_raises
from dcsnas.config.runs import RunFolder, file_in, run_folder

console = Console(highlight=False, soft_wrap=True, markup=False)

Config = Annotated[
    str,
    typer.Argument(help="Configuration: a YAML file, or a shipped one's name.", show_default=False),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the configuration."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; an interrupted run there is continued. Default: a new one."),
]
Msmt17 = Annotated[Literal["train", "train+val"], typer.Option(help="Training images of MSMT17.")]
Cuhk03 = Annotated[Literal["detected", "labeled"], typer.Option(help="Bounding boxes of CUHK03.")]
Cuhk03Classic = Annotated[
    int | None,
    typer.Option(min=0, max=19, help="Classic split of CUHK03. Default: the new protocol."),
]
Data = Annotated[
    Path | None, typer.Option(help="Data set folder; the same as --set data.root=DIR.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a CUDA device where there is one.")
]
AllowDisturbed = Annotated[
    bool,
    typer.Option("--allow-disturbed", help="Accept a latency table whose verdict is disturbed."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")]


def in_run(*names: str) -> Callable[[Path | None], Path | None]:
    """Return what takes a run folder for the file that is meant, one of ``names`` in it."""
    return lambda path: path and file_in(path, *names)


Arch = Annotated[
    Path,
    typer.Option(
        "--arch",
        help="An architecture.yaml, or a run folder with one.",
        callback=in_run("architecture.yaml"),
        show_default=False,
    ),
]
Weights = Annotated[
    Path,
    typer.Argument(
        help="A run folder of dcsnas retrain, or its model.safetensors.",
        callback=in_run("model.safetensors"),
    ),
]


def show(config: BaseModel) -> None:
    """Print a resolved configuration as YAML."""
    dumped: Any = config.model_dump(mode="json")
    console.print(yaml_text(dumped), end="")


@contextmanager
def running(
    out: Path | None, stage: str, config: str, *, first: bool = True
) -> Iterator[RunFolder]:
    """Be the one writer of a run's folder; where Ctrl-C ends the block, say how to continue it."""
    with run_folder(out, stage, config, first=first) as folder:
        folder.continued = same_command("--out", folder.path)
        with stoppable(folder.continued):
            yield folder


def same_command(option: str, path: Path) -> str:
    """Return how this command is continued, with ``path`` where it has chosen that itself."""
    given = sys.argv[1:]
    chosen = [] if any(one.partition("=")[0] == option for one in given) else [option, str(path)]
    return f"to continue: {shlex.join(['dcsnas', *given, *chosen])}"


@contextmanager
def stoppable(line: str) -> Iterator[None]:
    """Print ``line`` where Ctrl-C ends the block; of several processes the first does."""
    said = "" if int(os.environ.get("LOCAL_RANK", 0)) else f"stopped by SIGINT; {line}"
    try:
        with ctrl_c_raises(said):
            yield
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning exits in its place where a trainer has not begun to train
        interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(
            stop.__context__, KeyboardInterrupt
        )
        if not interrupted:
            raise
        if said:
            print(said, file=sys.stderr)
        raise SystemExit(STOPPED) from None


def show_progress() -> bool:
    """Return whether someone is watching: bars are for terminals, not for log files."""
    return console.is_terminal


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of ``256x128``; raises UserError."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--input {text}: expected HEIGHTxWIDTH in pixels, such as 256x128")
    return int(match[1]), int(match[2])


def with_allocator() -> None:
    """Start this command over under an allocator that keeps its memory, where it does not run so.

    Latencies are measured with it, and a training step on a CPU takes a seventh less.
    """
    from dcsnas.latency.allocator import reexec_with_allocator

    reexec_with_allocator(sys.orig_argv)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, names: bool = True
) -> None:
    """Print rows of text under ``columns``, the first of which holds ``names`` or numbers.

    The table has the width that it takes: a narrow terminal folds its lines, and nothing is cut.
    """
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if names and not place else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    endless = console.options.update(max_width=10_000)
    table.width = Measurement.get(console, endless, table).maximum
    console.print(table)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; call what it yields with how much is done of how much."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # the bar hides the cursor, and shows it again
    with ctrl_c_raises(), Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report
