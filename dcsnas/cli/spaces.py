"""``dcsnas spaces``: what the search spaces hold."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dcsnas.cli.options import console

if TYPE_CHECKING:
    from dcsnas.spaces.space import SearchSpace


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
        plain, kinds = space.with_attention("none"), space.file.attention.kinds
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
    from dcsnas.latency.keys import space_operators

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
