"""``dcsnas spaces``: what the search spaces hold."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dcsnas.cli.options import console

if TYPE_CHECKING:
    from dcsnas.spaces.space import SearchSpace
from pathlib import Path
from typing import Literal

from dcsnas.cli.options import parse_size


def spaces(
    name: Annotated[
        str | None, typer.Argument(help="One space, by name or path; all shipped ones without.")
    ] = None,
) -> None:
    """List search spaces: blocks, architectures, parameters, MACs, table keys.

    Example: dcsnas spaces fbnetv2
    """
    from dcsnas.spaces.shipped import find_space, shipped_spaces
    from dcsnas.spaces.space import SearchSpace

    paths = [find_space(name)] if name else shipped_spaces()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("space", "blocks", "architectures", "params M", "GMACs", "table keys"):
        table.add_column(column, justify="left" if column == "space" else "right", no_wrap=True)
    for path in paths:
        space = SearchSpace.load(path)
        plain, kinds = space.with_attention("none"), space.file.kinds
        blocks, count = str(space.num_blocks), _count(plain)
        table.add_row(space.name, blocks, count, *_ranges(plain), _keys(plain))
        if kinds != ("none",):
            chosen = _count(space) if len(kinds) > 1 else ""
            table.add_row(f"  + {' | '.join(kinds)}", "", chosen, *_ranges(space), _keys(space))
    console.print(table)
    console.print(
        "Smallest to largest network at the space's own input size, without classifier. "
        "Table keys: operators that dcsnas profile measures."
    )
    if name:
        _show_slots(SearchSpace.load(paths[0]))


def _count(space: "SearchSpace") -> str:
    return f"10^{space.log10_size:.1f}"


def _ranges(space: "SearchSpace") -> tuple[str, str]:
    from dcsnas.spaces.sampling import largest_choice, smallest_choice

    ends = [space.architecture(choose(space)) for choose in (smallest_choice, largest_choice)]
    costs = [network.cost(space.size) for network in ends]
    params = "-".join(f"{cost.params / 1e6:.3f}" for cost in costs)
    macs = "-".join(f"{cost.macs / 1e9:.3f}" for cost in costs)
    return params, macs


def _keys(space: "SearchSpace") -> str:
    from dcsnas.spaces.space import space_operators

    return f"{len(space_operators(space, space.size)):,}"


def _show_slots(space: "SearchSpace") -> None:
    height, width = space.size
    console.print(
        f"\n{space.file.source}; input {height}x{width}, output stride {space.file.output_stride}"
    )
    for slot in space.slots:
        decided = {name: list(d.options) for name, d in slot.decided.items() if name != "c_in"}
        shown = ("stride", "c_out", "expansion", "kind")
        fixed = {name: value for name, value in slot.constant.items() if name in shown}
        stated = ", ".join(f"{name} {value}" for name, value in {**decided, **fixed}.items())
        console.print(f"  {slot.layer.__name__:<10} {stated}")


Which = Literal["largest", "smallest", "random"]


def sample(
    space: Annotated[str, typer.Argument(help="Search space: a shipped name or a path.")],
    out: Annotated[Path, typer.Option(help="File to write.", show_default=False)],
    which: Annotated[
        Which, typer.Option(help="The largest option everywhere, the smallest, or random ones.")
    ] = "random",
    seed: Annotated[int, typer.Option(min=0, help="Of the random options.")] = 0,
    attention: Annotated[
        Literal["none", "sa", "dcs"] | None,
        typer.Option(help="Kind at every position. Default: the space's."),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="HxW", help="Input size. Default: the space's own."),
    ] = None,
) -> None:
    """Write one architecture of a search space, to train it as it is or beside a searched one.

    Example: dcsnas sample fbnetv2 --which largest --attention dcs --out architecture.yaml
    """
    import random

    from dcsnas.config.files import require_file_path
    from dcsnas.spaces import sampling
    from dcsnas.spaces.architecture import save_architecture
    from dcsnas.spaces.shipped import find_space
    from dcsnas.spaces.space import SearchSpace

    size = parse_size(input_) if input_ else None
    require_file_path(out)
    found = SearchSpace.load(find_space(space))
    if attention:
        found = found.with_attention(attention)
    match which:
        case "largest":
            choice = sampling.largest_choice(found)
        case "smallest":
            choice = sampling.smallest_choice(found)
        case "random":
            choice = sampling.sample_choice(found, random.Random(seed))
    content = sampling.unsearched(found, choice, size or found.size, seed=seed)
    save_architecture(out, content)
    console.print(
        f"{out}: {content.params / 1e6:.3f} M parameters, {content.macs / 1e9:.4f} GMACs at "
        f"{content.input[0]}x{content.input[1]}"
    )
