"""``dcsnas experiment``: sweeps of searches in NNI's web page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcsnas.cli.options import DryRun, console, with_allocator
from dcsnas.cli.trial_bars import Show, trial_bars
from dcsnas.config.errors import UserError
from dcsnas.config.interrupts import answer

if TYPE_CHECKING:
    from dcsnas.experiments.folder import ExperimentFolder

app = typer.Typer(
    help="Many searches as one NNI experiment, live in its web page.", no_args_is_help=True
)

Which = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT", help="Its folder, its name under runs, or NNI's id.",
        show_default=False,
    ),
]  # fmt: skip
Host = Annotated[
    str,
    typer.Option(
        metavar="127.0.0.1|0.0.0.0",
        help="Who can open the web page: this machine alone, or whoever reaches any address of it. "
        "NNI has no password: whoever opens the page reads and controls the experiment.",
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Return at once; the sweep goes on until it is stopped.")
]
Change = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one key of the sweep, such as concurrency=2 or "
        "search.epochs=5; may be repeated.",
    ),
]  # fmt: skip
LOOPBACK = "127.0.0.1"
NOT_PRINTED = (
    *("validation_map", "validation_rank1"),
    *("number", "expected_ms", "macs_g", "memory_mb", "entropy", "folder"),
)
"""Columns of trials.csv for which a terminal has no room."""


@app.command("start")
def start(
    sweep: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep: a YAML file, or a shipped one's name.",
                            show_default=False),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set folder of every search, and of every retraining if the sweep "
                     "retrains."),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Latency table of every search.")] = None,
    set_: Change = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder. Default: runs/NAME of the sweep, then runs/NAME-2."),
    ] = None,
    training_service: Annotated[
        Path | None,
        typer.Option(help="Where trials run: NNI's own YAML. Default: on this machine."),
    ] = None,
    host: Host = LOOPBACK,
    detach: Detach = False,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Run a sweep; Ctrl-C stops it and loses no finished epoch. Exits with 1 if a trial failed.

    Example: dcsnas experiment start experiments/nni/latency_sweep_tiny.yaml --data DIR
    --table TABLE.json
    """
    from dcsnas.config.files import read_yaml
    from dcsnas.experiments.settings import read_sweep
    from dcsnas.experiments.sweep import dump, planned
    from dcsnas.spaces.shipped import find_sweep

    resolved = read_sweep(find_sweep(sweep), data=data, table=table, overrides=set_ or [])
    if dry_run:
        console.print(dump(resolved), end="")
        for parameters in planned(resolved) if resolved.tuner != "tpe" else []:
            console.print(f"# trial: {json.dumps(parameters)}")
        return
    with_allocator()

    from dcsnas.experiments.experiment import start as run_start

    service = read_yaml(training_service) if training_service else None
    _warn(host, service)
    _follow(run_start(resolved, out, host=host, service=service), detach)


@app.command("resume")
def resume(experiment: Which, host: Host = LOOPBACK, detach: Detach = False) -> None:
    """Continue every trial that has no result, from its last epoch, and then the sweep.

    Example: dcsnas experiment resume runs/latency_sweep_tiny
    """
    with_allocator()

    from dcsnas.experiments.experiment import resume as run_resume

    folder = _find(experiment)
    _warn(host, folder.service_content)
    console.print(f"trials to continue: {run_resume(folder, host=host)}")
    _follow(folder, detach)


@app.command("view")
def view(experiment: Which, host: Host = LOOPBACK) -> None:
    """Say where an experiment's web page is, and how far it is; starts the page if none runs.

    Example: dcsnas experiment view runs/latency_sweep_tiny
    """
    from dcsnas.experiments.experiment import state
    from dcsnas.experiments.experiment import view as run_view

    folder = _find(experiment)
    _warn(host)
    _say_where(run_view(folder, host=host))
    console.print(f"{folder.path}: {state(folder)}")
    console.print(f"to close the page, and end what runs: dcsnas experiment stop {folder.path}")


@app.command("watch")
def watch(experiment: Which) -> None:
    """Show the bars of a running experiment in this terminal too; Ctrl-C ends only them.

    Example: dcsnas experiment watch runs/latency_sweep_tiny
    """
    from dcsnas.experiments.experiment import is_busy, state, wait

    folder = _find(experiment)
    if is_busy(folder):
        try:
            with trial_bars() as bars:
                wait(folder, Show(bars, folder))
        except KeyboardInterrupt as interrupt:
            answer(interrupt)
            console.print("no longer watching; the experiment goes on")
    console.print(f"{folder.path}: {state(folder)}")


@app.command("stop")
def stop(experiment: Which) -> None:
    """Stop an experiment's trials and its web page.

    Example: dcsnas experiment stop runs/latency_sweep_tiny
    """
    from dcsnas.experiments.experiment import state
    from dcsnas.experiments.experiment import stop as run_stop

    folder = _find(experiment)
    console.print("stopping ..." if run_stop(folder) else "was not running")
    console.print(f"{folder.path}: {state(folder)}")


@app.command("list")
def list_(
    root: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where experiments' folders are.")
    ] = Path("runs"),
) -> None:
    """List experiments: folder, NNI's id, how far they are, where their web page is.

    Example: dcsnas experiment list
    """
    from dcsnas.experiments.experiment import state
    from dcsnas.experiments.folder import experiments_in

    rows = [("folder", "id", "state")]
    for folder in experiments_in(root):
        try:
            identity, how = folder.id, state(folder)
        except UserError as error:  # one that cannot be read does not hide the others
            identity, how = "-", str(error).partition("\n")[0]
        rows.append((str(folder.path), identity, how))
    if len(rows) == 1:
        console.print(f"no experiments in {root}")
        return
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for path, identity, how in rows:
        console.print(f"{path:{widths[0]}}  {identity:{widths[1]}}  {how}")


@app.command("report")
def report(
    experiment: Which,
    budget_ms: Annotated[
        list[float] | None,
        typer.Option(help="Export the best network within this latency; may be repeated."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure all networks again, together, now.")
    ] = False,
) -> None:
    """Write the table, the Pareto front's picture and the best networks; also during a sweep.

    Example: dcsnas experiment report runs/latency_sweep_tiny --budget-ms 2.5
    """
    if measure:
        with_allocator()
    folder = _find(experiment)
    _report(folder, budget_ms or [], measure=measure)


def _find(experiment: str) -> "ExperimentFolder":
    from dcsnas.experiments.folder import find_experiment_folder

    return find_experiment_folder(experiment)


def _follow(folder: "ExperimentFolder", detach: bool) -> None:
    from dcsnas.experiments.experiment import stop, wait

    _say_where(folder.url)
    console.print(f"{folder.path}: results go there")
    if detach:
        console.print(f"to stop: dcsnas experiment stop {folder.path}")
        return
    try:
        with trial_bars() as bars:
            wait(folder, Show(bars, folder))
    except KeyboardInterrupt as interrupt:
        answer(interrupt)
        console.print("stopping ...")
        stop(folder)
        console.print(f"stopped; to continue: dcsnas experiment resume {folder.path}")
        raise typer.Exit(130) from None
    except UserError:
        stop(folder)
        raise
    stop(folder)
    _report(folder, [], measure=False)
    console.print(f"the web page again: dcsnas experiment view {folder.path}")
    trials = folder.database().trials()
    if failed := sum(trial.status == "FAILED" for trial in trials):
        console.print(
            f"{failed} of {len(trials)} trials failed: what they printed is in {folder.outputs}; "
            f"to run them again: dcsnas experiment resume {folder.path}"
        )
        raise typer.Exit(1)


def _report(folder: "ExperimentFolder", budgets_ms: list[float], *, measure: bool) -> None:
    from dcsnas.experiments.report import VALIDATION, write_report
    from dcsnas.experiments.sweep import CONDITIONS
    from dcsnas.plots.records import metric_text

    written = write_report(folder, budgets_ms=budgets_ms, measure=measure)
    # the notes say under what the latencies hold
    hidden = {*NOT_PRINTED, *CONDITIONS} - {written.score}
    columns = [column for column in written.table.columns if column not in hidden]
    shown: Any = written.table.reset_index()[["trial", *columns]]
    metric = written.score.removeprefix(VALIDATION)
    shown = shown.rename(columns={written.score: metric_text(metric)})
    console.print(shown.to_string(index=False, na_rep="-", float_format="{:.4g}".format))
    for note in (*written.notes, *written.comparisons):
        console.print(note)
    for path in written.files:
        console.print(str(path))


def _say_where(url: str) -> None:
    port = url.rpartition(":")[2]
    console.print(f"web page: {url}")
    console.print(f"from another machine: ssh -L {port}:localhost:{port} THIS_MACHINE")


def _warn(host: str, service: dict[str, Any] | None = None) -> None:
    from dcsnas.experiments.remote import machines_of

    if host == LOOPBACK:
        return
    if machines_of(service):
        console.print(
            "warning: NNI has no password; whoever uses this machine, or one of machine_list, can "
            "read and control the experiment. No other machine is answered."
        )
        return
    console.print(
        f"warning: NNI has no password; whoever reaches {host} can read and control the "
        "experiment. If you can, stay on 127.0.0.1 and forward the port by SSH."
    )
