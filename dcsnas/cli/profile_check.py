"""``dcsnas profile-check``: does a latency table predict whole networks?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import Force, bar, console, print_table, with_allocator
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.latency.check import CheckFile

_ENOUGH = 24
"""Networks of a check whose numbers are worth publishing."""


def profile_check(
    table: Annotated[Path, typer.Argument(help="Latency table of dcsnas profile.")],
    networks: Annotated[int, typer.Option(min=2, help="Held-out networks to measure.")] = _ENOUGH,
    rounds: Annotated[int, typer.Option(min=2, help="Samples of each network.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Draws the networks.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Report; default NAME.check.json beside the table.")
    ] = None,
    allow_foreign: Annotated[
        bool, typer.Option("--allow-foreign", help="Check another machine's table here.")
    ] = False,
    force: Force = False,
) -> None:
    """Compare predicted with measured latency on networks that the table has not seen.

    Example: dcsnas profile-check latency_tables/NAME.json
    """
    with_allocator()

    from dcsnas.config.files import write_json
    from dcsnas.config.outputs import output, require_output
    from dcsnas.latency.check import check_table, open_table_to_check
    from dcsnas.latency.samples import Settings
    from dcsnas.plots.prediction import plot_prediction
    from dcsnas.plots.style import save

    report_path = report_file(table, out)
    found, conditions = open_table_to_check(table, allow_foreign=allow_foreign)
    settings = Settings(rounds=rounds, seed=seed, calibration_networks=0)
    picture_path = report_path.with_suffix(".png")
    require_output(picture_path, force=force)
    with output(report_path, force=force):
        with bar("checking") as report:
            check = check_table(
                found, conditions, count=networks, seed=seed, settings=settings, progress=report
            )
        write_json(report_path, check.model_dump(mode="json"))
        picture = save(plot_prediction(check), picture_path)
    show_check(check)
    console.print(f"report in {report_path}, picture in {picture}")


def report_file(table: Path, out: Path | None) -> Path:
    """Return where the report goes, its picture beside it; raises UserError."""
    path = out or table.with_suffix(".check.json")
    if path.suffix != ".json":
        raise UserError(f"--out {path}: give a name that ends in .json; the picture ends in .png")
    if path.resolve() == table.resolve():
        raise UserError(f"--out {path}: that is the table itself; give another name")
    return path


def show_check(check: "CheckFile") -> None:
    """Print how well predictions and measurements of networks agree."""
    times = [network.measured_ms for network in check.networks]
    console.print(f"{len(times)} networks of {min(times):.3g} to {max(times):.3g} ms")
    columns = ("prediction", "MAPE", "bias", "worst", "tau, uniform", "tau, small to large")
    names = {"table": "table", "uncalibrated": "sums, uncalibrated", "macs_only": "MACs only"}
    shown = []
    for field, name in names.items():
        if scores := getattr(check.all, field):
            bias, worst = f"{scores.bias_percent:+.1f} %", f"{scores.worst_percent:.1f} %"
            mape = f"{scores.mape_percent:.1f} %"
            shown.append((name, mape, bias, worst, *_taus(check, field)))
    floor = f"{check.all.noise_floor.mape_percent:.1f} %"
    shown.append(("noise floor", floor, "", "", *_taus(check, "noise_floor")))
    print_table(columns, shown)
    if (change := check.reference_change_percent) is not None:
        longer = f"{abs(change):.1f} % {'more' if change > 0 else 'less'}"
        console.print(
            f"the reference takes {longer} time than when the table was made, which is allowed for"
        )
    if check.verdict is not None:
        console.print(f"this measurement: {check.verdict}")
    if check.table_verdict is not None:
        console.print(f"the table: {check.table_verdict}")
    if len(times) < _ENOUGH:
        console.print(f"a quick look: {_ENOUGH} networks or more make a check")


def _taus(check: "CheckFile", field: str) -> list[str]:
    """Return the rank correlations within networks of alike and of different sizes, for a table."""
    parts = [getattr(part, field) for part in (check.uniform, check.spread)]
    taus = [part and part.kendall_tau for part in parts]
    return ["-" if tau is None else f"{tau:.2f}" for tau in taus]
