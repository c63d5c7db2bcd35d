"""``dcsnas search``: the differentiable search."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import (
    AllowDisturbed,
    Config,
    Data,
    DryRun,
    Out,
    Set,
    console,
    running,
    show,
    with_allocator,
)


def search(
    config: Config,
    data: Data = None,
    table: Annotated[Path | None, typer.Option(help="Latency table; same as --set table=.")] = None,
    target_ms: Annotated[
        float | None,
        typer.Option(
            help="Expected latency to end at, in place of the configuration's objective; same as "
            "--set 'objective={form: target, target: MS}'."
        ),
    ] = None,
    set_: Set = None,
    out: Out = None,
    allow_foreign: Annotated[
        bool, typer.Option("--allow-foreign", help="Accept another machine's latency table.")
    ] = False,
    allow_disturbed: AllowDisturbed = False,
    dry_run: DryRun = False,
) -> None:
    """Search weights and architecture jointly; writes a run folder.

    Example: dcsnas search experiments/search_tiny.yaml --data DIR --target-ms 2.5
    """
    from dcsnas.config.search import search_model, search_overrides
    from dcsnas.spaces.shipped import resolve

    overrides = search_overrides(set_ or [], data=data, table=table, target_ms=target_ms)
    resolved = resolve(search_model, config, overrides)
    if dry_run:
        return show(resolved)
    with_allocator()

    from dcsnas.search.run import search as run_search
    from dcsnas.tasks.task import find_task
    from dcsnas.training.processes import this_process

    first = this_process(resolved.run).first
    with running(out, "search", config, first=first) as folder:
        result = run_search(
            resolved,
            folder,
            allow_foreign=allow_foreign,
            allow_disturbed=allow_disturbed,
            progress=True,
        )
    for line in result.lines(find_task(resolved.task).label):
        console.print(line)
    console.print(f"{folder.path}; next: dcsnas derive {folder.path}")
