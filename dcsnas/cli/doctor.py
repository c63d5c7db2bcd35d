"""``dcsnas doctor``: what this machine has, and what each stage would use or lacks."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import console

if TYPE_CHECKING:
    from dcsnas.doctor.findings import Diagnosis


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for scripts.")
    ] = False,
) -> None:
    """Say what this machine has, what each stage would use or lacks, and what to do about it.

    Exits with 1 where a stage cannot run.

    Example: dcsnas doctor
    """
    from dcsnas.doctor.findings import Diagnosis
    from dcsnas.doctor.machine import check_machine
    from dcsnas.doctor.software import check_software

    found = Diagnosis([*check_software(), *check_machine()])
    if as_json:
        typer.echo(json.dumps(found.record(), indent=2))
    else:
        _show(found)
    raise typer.Exit(0 if found.sound else 1)


def _show(found: "Diagnosis") -> None:
    from dcsnas.doctor.findings import STAGES

    width = max(len(finding.name) for finding in found.findings)
    for finding in found.findings:
        console.print(f"{finding.state:7}  {finding.name:{width}}  {finding.text}")
        if finding.advice:
            console.print(f"{'':7}  {'':{width}}  -> {finding.advice}")
    console.print()
    for stage in STAGES:
        console.print(f"{stage:{max(map(len, STAGES))}}  {found.in_words(stage)}")
