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
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.latency.conditions import Conditions
    from dcsnas.latency.samples import Settings
    from dcsnas.latency.table import LatencyTable
    from dcsnas.spaces.space import SearchSpace

_MAX_DRIFT_PERCENT = 25.0

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
    typer.Option(help="Kind of attention: none, sa, dcs. Default: the space's."),
]
SparseOption = Annotated[
    bool, typer.Option("--sparse", help="Measure 16 operators of each group, fit the others.")
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
    space: Annotated[str, typer.Argument(help="Search space, by name or path.")],
    backend: BackendOption = None,
    device: DeviceOption = None,
    input_size: InputOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads within an operator.")] = 1,
    dtype: DTypeOption = "float32",
    attention: AttentionOption = None,
    sparse: SparseOption = False,
    rounds: Annotated[int, typer.Option(min=2, help="Samples of each operator.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Table file; default latency_tables/.")] = None,
    energy: EnergyOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keys and stop.")] = False,
) -> None:
    """Build or continue the latency table of a search space on this device.

    Example: dcsnas profile tiny --backend eager --input 64x32 --batch 1
    """
    with_allocator()

    from dcsnas.config.outputs import output
    from dcsnas.latency.machine import current_conditions
    from dcsnas.latency.profile import TABLES, default_name, profile_space
    from dcsnas.latency.samples import Settings
    from dcsnas.spaces.space import load_space

    searched = load_space(space, attention)
    size = parse_size(input_size) if input_size else searched.size
    how = {"backend": pick_backend(backend, device), "threads": threads, "dtype": dtype}
    conditions = current_conditions(size, batch, **how)
    settings = Settings(rounds=rounds, sparse=sparse)
    _announce(searched, conditions, settings)
    if dry_run:
        return
    path = out or TABLES / default_name(searched, conditions, sparse=sparse)
    stopping = stoppable(same_command("--out", path))
    # a table that is there is continued, or read
    with output(path, force=True), stopping, bar("profiling") as report:
        table = profile_space(
            searched, path, conditions=conditions, settings=settings, progress=report
        )
    _summarise(path, table)
    if energy:
        with output(path, force=True), stoppable(same_command("--out", path)):
            _measure_energy(table)


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
    console.print(f"{conditions.backend} on {conditions.device_name}: about {_rough(seconds)}")


def _rough(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _summarise(path: Path, table: "LatencyTable") -> None:
    file = table.file
    for key, reason in file.failed.items():
        console.print(f"not measured: {key}: {reason}")
    drift = file.reference.drift_percent
    console.print(f"{len(file.entries):,} entries in {path}; reference drifted {drift:.1f} %")
    if drift > _MAX_DRIFT_PERCENT:
        console.print("the machine changed its speed meanwhile: profile again when it is calm")
    if file.calibration is None:
        console.print("not calibrated: predictions are plain sums over the entries")
        return
    found = file.calibration
    fitted = f"{found.scale:.3f} x sum {found.offset_ms:+.3f} ms"
    if found.loo_mape_percent is None:
        console.print(f"calibrated on the space's only network: {fitted}")
        return
    console.print(
        f"calibrated on {len(found.networks)} networks: {fitted}, leave-one-out error "
        f"{found.loo_mape_percent:.1f} %; next: dcsnas profile-check {path}"
    )
