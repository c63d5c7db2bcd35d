"""The ``dcsnas`` command: its subcommands in the order of the flow, and how errors end."""

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from dcsnas import __version__
from dcsnas.cli import (
    ablate,
    count,
    data,
    demo,
    deployment,
    derive,
    detect,
    doctor,
    evaluate,
    experiment,
    experiment_check,
    export,
    profile,
    profile_check,
    runs,
    sample,
    search,
    spaces,
    training,
    weights,
)
from dcsnas.config.environment import quiet_libraries, started_by_torchrun
from dcsnas.config.errors import UserError
from dcsnas.config.interrupts import STOPPED
from dcsnas.config.last_word import of_the_machine, say
from dcsnas.config.plugins import load_named

FLOW = ("doctor", "demo", "spaces", "count", "sample", "data", "profile", "profile-check",
        "search", "derive", "weights", "pretrain", "tune-eta", "retrain", "ablate", "evaluate",
        "calibrate", "match", "embed", "export", "detect", "experiment", "plot", "runs",
        "report")  # fmt: skip


class FlowOrder(TyperGroup):
    """Lists the commands in the order in which they are used."""

    def list_commands(self, ctx: object) -> list[str]:
        """Return the commands' names for the help."""
        return list(FLOW)


app = typer.Typer(
    cls=FlowOrder,
    help="Latency-aware differentiable architecture search around FBNetV2 with DCS-Attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dcsnas {__version__}")
        raise typer.Exit


@app.callback()
def options(
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="MODULE",
            help="Import a Python module that adds backends, cost forms and the like; may be "
            "repeated. Code of whoever wrote it runs.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    """Do what is asked for before any command."""
    load_named(plugin or [])


app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("spaces")(spaces.spaces)
app.command("count")(count.count)
app.command("sample")(sample.sample)
app.add_typer(data.app, name="data")
app.command("profile", cls=profile.NamesBackends)(profile.profile)
app.command("profile-check")(profile_check.profile_check)
app.add_typer(weights.app, name="weights")
app.command("search")(search.search)
app.command("derive")(derive.derive)
app.command("pretrain")(training.pretrain)
app.command("tune-eta")(training.tune_eta)
app.command("retrain")(training.retrain)
app.command("ablate")(ablate.ablate)
app.command("evaluate")(evaluate.evaluate)
app.command("calibrate")(deployment.calibrate)
app.command("match")(deployment.match)
app.command("embed")(deployment.embed)
app.command("export")(export.export)
app.add_typer(detect.app, name="detect")
experiment.app.command("check")(experiment_check.check)
app.add_typer(experiment.app, name="experiment")
app.command("plot")(runs.plot)
app.command("runs")(runs.runs)
app.command("report")(runs.report)


def run() -> None:
    """Run the command line; a user's mistake ends with one message and exit code 2.

    So does what the machine lacks: memory, a disk that can be read and written.
    """
    quiet_libraries()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except UserError as error:
        _end(str(error))
    except Exception as error:
        if not (told := of_the_machine(error)):
            _tell_machines(f"{type(error).__name__}: {error}")
            raise
        # of what libraries do at exit some fails for the same reason
        sys.unraisablehook = lambda unraisable: None
        _end(told)


def _end(message: str) -> NoReturn:
    say(message)
    _tell_machines(message)
    sys.exit(2)


def _tell_machines(message: str) -> None:
    """Have the other machines of a run end as well."""
    if started_by_torchrun(os.environ):
        from dcsnas.training.machines import tell_machines  # with torch

        tell_machines(message)
