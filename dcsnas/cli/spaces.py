"""``dcsnas spaces``: what the search spaces hold."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dcsnas.cli.options import console, print_table
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.spaces.space import SearchSpace


def spaces(
    name: Annotated[
        str | None,
        typer.Argument(help="One space: a shipped name, a path or a backbone's name; all without."),
    ] = None,
    backbones: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="List the backbones with this text in their names."),
    ] = None,
) -> None:
    """List search spaces: what there is to choose, parameters, MACs, memory, attention.

    Example: dcsnas spaces fbnetv2
    """
    from dcsnas.spaces.shipped import shipped_names
    from dcsnas.spaces.space import SearchSpace

    if backbones is not None:
        return _list_backbones(backbones)
    columns = ("space", "blocks", "architectures", "params M", "GMACs", "peak MB", "table keys")
    rows: list[tuple[str, ...]] = []
    missing: list[UserError] = []
    for each in [name] if name else shipped_names():
        try:
            rows += _rows(SearchSpace.named(each))
        except UserError as error:
            if name:
                raise
            missing.append(error)
            rows.append((each,))
    print_table(columns, rows)
    console.print(
        "Smallest to largest network at the space's own input size, without classifier. "
        "Peak MB: of activations, for one image in float32; 1 MB is 10^6 bytes. "
        "+ KINDS x POSITIONS: with attention. Table keys: operators that dcsnas profile measures."
    )
    for line in dict.fromkeys(map(str, missing)):
        console.print(line)
    if name:
        _show_slots(SearchSpace.named(name))


def _rows(space: "SearchSpace") -> Iterator[tuple[str, ...]]:
    """Yield a row of ``space`` without attention, and one with it."""
    from dcsnas.spaces.attention import attends
    from dcsnas.spaces.layers import Attention, Selection

    plain, kinds = space.without_attention(), space.file.kinds
    positions = sum(slot.layer in (Attention, Selection) for slot in space.slots)
    blocks = str(space.num_blocks or "")
    yield space.name, blocks, _count(plain), *_ranges(plain), _keys(plain)
    if positions and any(map(attends, kinds)):
        chosen = _count(space) if any(d.label.endswith("kind") for d in space.decisions) else ""
        with_kinds = f"  + {' | '.join(kinds)} x {positions}"
        yield with_kinds, "", chosen, *_ranges(space), _keys(space)


def _list_backbones(text: str) -> None:
    """Print the names of backbones that contain ``text``."""
    from dcsnas.spaces.backbones import backbone_names

    found = [name for name in backbone_names() if text in name]
    if not found:
        raise UserError(f"--backbones {text}: no backbone has this in its name; give another text")
    for name in found:
        console.print(name)


def _count(space: "SearchSpace") -> str:
    return f"10^{space.log10_size:.1f}" if space.decisions else "1"


def _ranges(space: "SearchSpace") -> tuple[str, str, str]:
    from dcsnas.spaces.sampling import largest_choice, smallest_choice

    choices = {tuple(choose(space).items()) for choose in (smallest_choice, largest_choice)}
    networks = [space.architecture(dict(choice)) for choice in choices]
    costs = sorted((n.cost(space.size) for n in networks), key=lambda cost: cost.macs)
    peaks = sorted(network.memory(space.size) for network in networks)
    params = "-".join(f"{cost.params / 1e6:.3f}" for cost in costs)
    macs = "-".join(f"{cost.macs / 1e9:.3f}" for cost in costs)
    return params, macs, "-".join(f"{peak / 1e6:.3f}" for peak in peaks)


def _keys(space: "SearchSpace") -> str:
    from dcsnas.spaces.space import space_operators

    return f"{len(space_operators(space, space.size)):,}"


def _show_slots(space: "SearchSpace") -> None:
    from dcsnas.spaces.network import layer_sizes

    height, width = space.size
    console.print(
        f"\n{space.file.source}; input {height}x{width}, output stride {space.file.output_stride}"
    )
    sizes = layer_sizes(space.any_architecture.layers, space.size)
    for slot, (rows, columns) in zip(space.slots, sizes, strict=True):
        decided = {name: list(d.options) for name, d in slot.decided.items() if name != "c_in"}
        shown = ("backbone", "stride", "c_out", "expansion", "channels", "kind")
        fixed = {name: value for name, value in slot.constant.items() if name in shown}
        stated = ", ".join(f"{name} {value}" for name, value in {**decided, **fixed}.items())
        console.print(f"  {slot.layer.__name__:<10} @{rows}x{columns}: {stated}")
