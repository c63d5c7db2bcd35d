"""``dcsnas profile --plan`` and ``--read``: a table of a device that has no dcsnas."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dcsnas.cli.options import bar, console
from dcsnas.cli.profile_check import report_file, show_check
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.latency.plans.plan import Plan
    from dcsnas.latency.plans.results import Results
    from dcsnas.latency.table import LatencyTable

WITH_PLAN = {"space", "plan", "backend", "input_size", "batch", "threads", "dtype", "attention",
             "sparse", "rounds", "force", "device"}  # fmt: skip
WITH_READ = {"space", "read", "out", "force"}


def refuse_beside(ctx: typer.Context, option: str, allowed: Collection[str], why: str) -> None:
    """Raise UserError where options were given that do not go with ``option``."""
    others = [p for p in ctx.command.params if p.name not in allowed]
    sources = [ctx.get_parameter_source(parameter.name or "") for parameter in others]
    given = [
        max(parameter.opts, key=len)
        for parameter, source in zip(others, sources, strict=True)
        if source and source.name == "COMMANDLINE"
    ]
    if given:
        raise UserError(f"{option}: leave out {', '.join(given)}: {why}")


def refuse_other_runtimes(backend: str | None, device: str | None, dtype: str) -> None:
    """Raise UserError where a plan's ONNX models are not what was asked for."""
    asked = {"--backend": (backend, "onnxruntime"), "--device": (device, "cpu"),
             "--dtype": (dtype, "float32")}  # fmt: skip
    for option, (given, only) in asked.items():
        if given not in (None, only):
            raise UserError(
                f"{option} {given}: a plan's models are ONNX in float32, for onnxruntime on a CPU "
                f"(and for trtexec, whatever this says): leave {option} out"
            )


def write_plan(
    space_name: str,
    folder: Path,
    *,
    attention: str | None,
    size: tuple[int, int] | None,
    batch: int,
    threads: int,
    rounds: int,
    sparse: bool,
    force: bool,
) -> None:
    """Write a plan and say what to do with it."""
    from dcsnas.latency.plans import plan as plans
    from dcsnas.spaces.space import load_space

    space = load_space(space_name, attention)
    with bar("exporting") as report:
        plan = plans.write_plan(
            space,
            folder,
            attention=attention,
            wanted=plans.Wanted(threads=threads, batch=batch, input=size or space.size),
            settings=plans.plan_settings(rounds=rounds, sparse=sparse),
            force=force,
            progress=report,
        )
    _tell(plan, space_name, folder)


def _tell(plan: "Plan", space_name: str, folder: Path) -> None:
    drawn = [model.drawn for model in plan.of_role("network")]
    calibrating = drawn.count("calibration")
    mib = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    console.print(
        f"{folder}: {len(plan.of_role('operator')):,} operators, {calibrating} networks to "
        f"calibrate with, {len(drawn) - calibrating} held out to check with; {mib:.0f} MiB"
    )
    console.print(
        "copy the folder to the device; there: pip install onnxruntime && python3 run.py\n"
        f"copy results.json back; here: dcsnas profile {space_name} --read "
        f"{folder / 'results.json'}"
    )


def read_table(space_name: str, path: Path, *, out: Path | None, force: bool) -> "LatencyTable":
    """Write the table, and its check, of what a device measured, and return it."""
    from dcsnas.config.files import write_json
    from dcsnas.config.outputs import output, require_output
    from dcsnas.latency.plans.results import check_results, conditions_of, make_table
    from dcsnas.latency.profile import TABLES, default_name
    from dcsnas.latency.table import save_table
    from dcsnas.plots.prediction import plot_prediction
    from dcsnas.plots.style import save
    from dcsnas.spaces.space import load_space

    results = _results(path)
    space = load_space(space_name, results.plan.attention)
    sparse = results.plan.settings.sparse
    table_path = out or TABLES / default_name(space, conditions_of(results), sparse=sparse)
    report_path = report_file(table_path, None)
    for beside in (report_path, report_path.with_suffix(".png")):
        require_output(beside, force=force)
    with output(table_path, force=force):
        table = make_table(results, space, table_path)
        check = check_results(table, results)
        save_table(table_path, table.file)
        if check is None:
            console.print("not checked: the plan held no networks to check with")
            return table
        write_json(report_path, check.model_dump(mode="json"))
        picture = save(plot_prediction(check), report_path.with_suffix(".png"))
    show_check(check)
    console.print(f"report in {report_path}, picture in {picture}")
    return table


def _results(path: Path) -> "Results":
    from dcsnas.latency.plans.results import RESULTS, read_results
    from dcsnas.latency.plans.trtexec import holds_trtexec, read_trtexec

    if not path.is_dir():
        return read_results(path)
    if (path / RESULTS).is_file():
        return read_results(path / RESULTS)
    if holds_trtexec(path) and not (path / "run.py").exists():
        return read_trtexec(path)
    raise UserError(
        f"--read {path}: a folder without {RESULTS} (python3 run.py writes it on the device) and "
        "not one that trtexec.sh wrote; give the file, or a folder with it"
    )
