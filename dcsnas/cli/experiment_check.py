"""``dcsnas experiment check``: whether the machines of a training service can run a sweep."""

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import typer

from dcsnas.cli.options import console
from dcsnas.config.errors import UserError


def check(
    sweep: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep: a YAML file, or a shipped one's name.",
                            show_default=False),
    ],
    training_service: Annotated[
        Path, typer.Option(help="Where trials are to run: NNI's own YAML.", show_default=False)
    ],
    data: Annotated[Path | None, typer.Option(help="As for start.")] = None,
    table: Annotated[Path | None, typer.Option(help="As for start.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As for start.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The folder that the experiment's is to be made in.")
    ] = Path("runs"),
) -> None:  # fmt: skip
    """Look at every machine before a sweep is started: versions, and what all have to share.

    One line a machine; exits with 2 where trials could not run on one. Nothing is started.

    Example: dcsnas experiment check experiments/nni/latency_sweep.yaml --data DIR
    --table TABLE.json --training-service experiments/nni/services/remote.yaml
    """
    from dcsnas.config.files import read_yaml
    from dcsnas.experiments.nni_manager import training_service as taken_by_nni
    from dcsnas.experiments.remote import look_at_machines, machines_of
    from dcsnas.experiments.settings import read_sweep
    from dcsnas.experiments.trial_inputs import check_inputs, with_absolute_paths
    from dcsnas.spaces.shipped import find_sweep

    resolved = read_sweep(find_sweep(sweep), data=data, table=table, overrides=set_ or [])
    service = read_yaml(training_service)
    taken_by_nni(service, training_service)
    if not machines_of(service):
        raise UserError(f"{training_service}: names no machines (platform: remote) to look at")
    check_inputs(resolved)
    out.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=out, prefix=".check-") as probe:
        probe.write(out.name.encode())
        probe.flush()
        looked = look_at_machines(Path(probe.name), with_absolute_paths(resolved), service)
    for host, problem in looked:
        console.print(f"machine {host}: {problem or 'ready'}")
    if any(problem for _, problem in looked):
        raise typer.Exit(2)
