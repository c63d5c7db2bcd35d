"""``dcsnas profile``: measure the latency table of a space on this device."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from dcsnas.cli.options import (
    bar,
    console,
    parse_size,
    same_command,
    stoppable,
    with_allocator,
)
from dcsnas.cli.profile_like import LikeOption, MeasureOption, table_like, transferred
from dcsnas.cli.profile_plan import (
    WITH_PLAN,
    WITH_READ,
    read_table,
    refuse_beside,
    refuse_other_runtimes,
    write_plan,
)
from dcsnas.config.durations import duration
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.latency.conditions import Conditions
    from dcsnas.latency.samples import Settings
    from dcsnas.latency.table import LatencyTable
    from dcsnas.spaces.space import SearchSpace


BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="How networks will be run. Default: eager, or cuda on a GPU.",
    ),
]
DeviceOption = Annotated[
    Literal["cpu", "cuda"] | None, typer.Option(help="Device; follows from the backend.")
]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="HxW", help="Input size. Default: the space's.")
]
DTypeOption = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option(help="Type of weights and images.")
]
AttentionOption = Annotated[
    str | None,
    typer.Option(help="Kind of attention: none, sa, gsa, dcs_window, dcs. Default: the space's."),
]
SparseOption = Annotated[
    bool | None,
    typer.Option(
        "--sparse/--complete",
        help="Measure 16 operators of each group and fit the others, or measure all. Default: "
        "all, but sparse with --plan.",
        show_default=False,
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="DIR",
        help="Measure nothing here: write ONNX models and a runner for a device without dcsnas.",
    ),
]
ReadOption = Annotated[
    Path | None,
    typer.Option(
        "--read",
        metavar="FILE",
        help="Measure nothing here: make the table, and its check, of the results.json that a "
        "plan's runner wrote on the device, or of the folder that its trtexec.sh did.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="With --plan and --read: replace what is there.")
]


EnergyOption = Annotated[
    bool,
    typer.Option(
        "--energy",
        help="Also measure the operators' energy, half a second each, where the device counts it: "
        "RAPL of a processor, NVML of a GPU.",
    ),
]


class NamesBackends(TyperCommand):
    """A command whose help lists the backends, plugins' included, which takes loading torch."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from dcsnas.config.plugins import load_installed
        from dcsnas.latency.backends import BACKENDS

        load_installed()
        (option,) = (one for one in self.params if one.name == "backend")
        option.help += f" There are {', '.join(BACKENDS)}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def profile(
    ctx: typer.Context,
    space: Annotated[str, typer.Argument(help="Search space, by name or path.")],
    backend: BackendOption = None,
    device: DeviceOption = None,
    input_size: InputOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads within an operator.")] = 1,
    dtype: DTypeOption = "float32",
    attention: AttentionOption = None,
    sparse: SparseOption = None,
    rounds: Annotated[int, typer.Option(min=2, help="Samples of each operator.")] = 20,
    like: LikeOption = None,
    measure: MeasureOption = None,
    out: Annotated[Path | None, typer.Option(help="Table file; default latency_tables/.")] = None,
    energy: EnergyOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keys and stop.")] = False,
    plan: PlanOption = None,
    read: ReadOption = None,
    force: ForceOption = False,
) -> None:
    """Build or continue the latency table of a search space on this device, or for another one.

    Example: dcsnas profile tiny --backend eager --input 64x32 --batch 1
    """
    if read:
        refuse_beside(ctx, "--read", WITH_READ, "the results say how they were measured")
        return _summarise(read_table(space, read, out=out, force=force))
    if plan:
        refuse_beside(ctx, "--plan", WITH_PLAN, "a plan measures nothing, and writes to its folder")
        refuse_other_runtimes(backend, device, dtype)
        size = parse_size(input_size) if input_size else None
        how = {"threads": threads, "batch": batch, "size": size, "attention": attention}
        sparse = sparse is not False
        return write_plan(space, plan, **how, rounds=rounds, sparse=sparse, force=force)
    if force:
        raise UserError("--force: goes with --plan or --read; a table that is there is continued")
    with_allocator()

    from dcsnas.latency.samples import Settings

    how = {"backend": pick_backend(backend, device), "threads": threads, "dtype": dtype}
    searched, conditions = _conditions(space, attention, input_size, batch, how)
    settings = Settings(rounds=rounds, sparse=bool(sparse))
    if like is not None or measure is not None:
        source = table_like(like, searched, beside=settings.sparse or dry_run or energy)
        return _summarise(transferred(searched, source, out, conditions, settings, measure))
    _announce(searched, conditions, settings)
    if not dry_run:
        _build(searched, conditions, settings, out, energy=energy)


def _conditions(
    name: str, attention: str | None, input_size: str | None, batch: int, how: dict[str, Any]
) -> tuple["SearchSpace", "Conditions"]:
    from dcsnas.latency.machine import current_conditions
    from dcsnas.spaces.space import load_space

    space = load_space(name, attention)
    size = parse_size(input_size) if input_size else space.size
    return space, current_conditions(size, batch, **how)


def _build(
    space: "SearchSpace",
    conditions: "Conditions",
    settings: "Settings",
    out: Path | None,
    *,
    energy: bool,
) -> None:
    from dcsnas.config.outputs import output

    _summarise(table := _measure(space, conditions, settings, out))
    if energy:
        path = Path(table.source)
        with output(path, force=True), stoppable(same_command("--out", path)):
            _measure_energy(table)


def _measure(
    space: "SearchSpace", conditions: "Conditions", settings: "Settings", out: Path | None
) -> "LatencyTable":
    from dcsnas.config.outputs import output
    from dcsnas.latency.profile import TABLES, default_name, profile_space

    path = out or TABLES / default_name(space, conditions, sparse=settings.sparse)
    stopping = stoppable(same_command("--out", path))
    # a table that is there is continued, or read
    with output(path, force=True), stopping, bar("profiling") as report:
        return profile_space(space, path, conditions=conditions, settings=settings, progress=report)


def _measure_energy(table: "LatencyTable") -> None:
    """Add the energy of the operators to the table's file, or say why there is none."""
    from dcsnas.latency.backends.backend import prepare_operator
    from dcsnas.latency.energy import NoMeterError, find_meter, with_energy

    try:
        meter = find_meter(table.file.conditions.device)
    except NoMeterError as error:
        console.print(f"no energy: {error}")
        return
    with bar("energy") as report:
        with_energy(table, prepare_operator, meter, progress=report)
    console.print(f"{table.source}: energy_mj of {meter.name}, of the whole device while each ran")


def pick_backend(backend: str | None, device: str | None) -> str:
    """Return the backend asked for; raises UserError where it does not run on ``device``."""
    from dcsnas.latency.backends import backend_named
    from dcsnas.latency.backends.eager import PLAIN

    chosen = backend or PLAIN[device or "cpu"]
    if device and (runs_on := backend_named(chosen).device) != device:
        raise UserError(
            f"--backend {chosen} runs on {runs_on}, --device says {device}: leave --device out, or "
            "choose another backend (dcsnas profile --help lists them)"
        )
    return chosen


def _announce(space: "SearchSpace", conditions: "Conditions", settings: "Settings") -> None:
    from dcsnas.latency.interpolation import chosen
    from dcsnas.latency.profile import estimated_seconds
    from dcsnas.spaces.space import space_operators

    operators = space_operators(space, conditions.input)
    keys = chosen(operators) if settings.sparse else operators
    measured = [operators[key] for key in keys]
    kinds = Counter(operator.layer.op for operator in operators.values())
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    height, width = conditions.input
    console.print(f"{space.name} at {height}x{width}: {len(operators):,} operators ({listed})")
    if settings.sparse:
        console.print(f"{len(measured):,} of them measured, the others interpolated")
    seconds = estimated_seconds(space, measured, conditions, settings)
    console.print(f"{conditions.backend} on {conditions.device_name}: about {duration(seconds)}")


def _summarise(table: "LatencyTable") -> None:
    file, path = table.file, table.source
    for key, reason in file.failed.items():
        console.print(f"not measured: {key}: {reason}")
    console.print(f"{len(file.entries):,} entries in {path}")
    _say_calibration(path, table)
    if file.verdict is not None:
        console.print(f"{file.verdict}\n{file.verdict.advice}")


def _say_calibration(path: str, table: "LatencyTable") -> None:
    file = table.file
    if file.calibration is None:
        console.print("not calibrated: predictions are plain sums over the entries")
        return
    found = file.calibration
    if file.transferred:
        console.print(
            f"transferred from {file.transferred.table} with {len(found.networks)} networks, each "
            f"predicted by the others with an error of {found.loo_mape_percent:.1f} %; next: "
            f"dcsnas profile-check {path}"
        )
        return
    weights = f" + {found.weights_ms:.3f} ms for each million weights" if found.weights_ms else ""
    fitted = f"{found.scale:.3f} x sum{weights} {found.offset_ms:+.3f} ms"
    if found.loo_mape_percent is None:
        console.print(f"calibrated on the space's only network: {fitted}")
        return
    console.print(
        f"calibrated on {len(found.networks)} networks: {fitted}, leave-one-out error "
        f"{found.loo_mape_percent:.1f} %; next: {_next_step(table)}"
    )


def _next_step(table: "LatencyTable") -> str:
    if table.file.conditions.torch is None:  # another device's, which was checked there
        return f"dcsnas search CONFIG --table {table.source} --allow-foreign"
    return f"dcsnas profile-check {table.source}"
