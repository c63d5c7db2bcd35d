"""``dcsnas sample``: one network of a space, of no search."""

import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dcsnas.cli.options import AllowDisturbed, Force, console, parse_size
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.spaces.architecture import ArchitectureFile
    from dcsnas.spaces.space import Choice, SearchSpace

Which = Literal["largest", "smallest", "random"]
Seed = Annotated[int, typer.Option(min=0, help="Of the random options.")]
Attention = Annotated[
    str | None,
    typer.Option(
        help="Kind at every position: none, sa, gsa, dcs_window, dcs. Default: the space's."
    ),
]
Input = Annotated[
    str | None, typer.Option("--input", metavar="HxW", help="Input size. Default: the space's own.")
]
TargetMs = Annotated[
    float | None, typer.Option(help="Random options of this predicted latency, within 1 %.")
]
TargetMemory = Annotated[
    float | None,
    typer.Option(
        metavar="MB",
        help="Random options of this peak memory of activations, within 1 %: for one image in "
        "float32, in MB of 10^6 bytes. Needs no table.",
    ),
]
TableFile = Annotated[
    Path | None, typer.Option(help="Latency table of the space, for --target-ms.")
]


def sample(
    space: Annotated[
        str, typer.Argument(help="Search space: a shipped name, a path, or a backbone's name.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    which: Annotated[
        Which, typer.Option(help="The largest option everywhere, the smallest, or random ones.")
    ] = "random",
    seed: Seed = 0,
    attention: Attention = None,
    input_: Input = None,
    target_ms: TargetMs = None,
    target_memory: TargetMemory = None,
    table: TableFile = None,
    allow_disturbed: AllowDisturbed = False,
    force: Force = False,
) -> None:
    """Write one architecture of a search space, to train it as it is or beside a searched one.

    Example: dcsnas sample fbnetv2 --which largest --attention dcs --out architecture.yaml
    """
    from dcsnas.config.outputs import require_output
    from dcsnas.spaces.architecture import save_architecture
    from dcsnas.spaces.space import load_space

    if (target_ms is None) != (table is None):
        raise UserError("--target-ms and --table: a latency needs a table; give both or neither")
    if table and (which != "random" or input_):
        raise UserError(
            "--target-ms: is of random options at the table's input; leave --which and --input out"
        )
    if target_memory is not None and (which != "random" or table):
        raise UserError(
            "--target-memory: is of random options and needs no table; leave --which, --target-ms "
            "and --table out"
        )
    size = parse_size(input_) if input_ else None
    require_output(out, force=force)
    found = load_space(space, attention)
    if target_ms is not None and table is not None:
        content = _at_latency(found, table, target_ms, seed, allow_disturbed=allow_disturbed)
    elif target_memory is not None:
        from dcsnas.search.random_search import random_network_of_memory

        content = random_network_of_memory(found, size or found.size, target_memory, seed)
    else:
        content = found.described(_choice(found, which, seed), size or found.size, seed=seed)
    save_architecture(out, content)
    console.print(f"{out}: {_costs(content)}")


def _costs(content: "ArchitectureFile") -> str:
    predicted = content.provenance.predicted_latency_ms
    latency = "" if predicted is None else f", predicted {predicted:.3f} ms"
    return (
        f"{content.params / 1e6:.3f} M parameters, {content.macs / 1e9:.4f} GMACs at "
        f"{content.input[0]}x{content.input[1]}, {content.memory_mb:.3f} MB peak "
        f"memory for one image{latency}"
    )


def _choice(space: "SearchSpace", which: Which, seed: int) -> "Choice":
    from dcsnas.spaces.sampling import largest_choice, sample_choice, smallest_choice

    match which:
        case "largest":
            return largest_choice(space)
        case "smallest":
            return smallest_choice(space)
        case "random":
            return sample_choice(space, random.Random(seed))


def _at_latency(
    space: "SearchSpace", path: Path, target_ms: float, seed: int, *, allow_disturbed: bool
) -> "ArchitectureFile":
    """Return a random network at ``target_ms``; raises UserError for a table of another space."""
    from dcsnas.latency.table import load_table
    from dcsnas.search.random_search import random_network_at

    table = load_table(path, expected=None)
    if not allow_disturbed:
        table.refuse_disturbed()
    if table.space.digest != space.digest:
        raise UserError(
            f"{path}: the table of another space ({table.space.name}) than {space.name}, or of "
            "other kinds of attention; give that one, or profile this one"
        )
    return random_network_at(table, target_ms, seed)
