"""``dcsnas count``: parameters and work of a network, as this package and as others count."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcsnas.cli.options import console, parse_size, print_table
from dcsnas.config.errors import UserError

if TYPE_CHECKING:
    from dcsnas.spaces.network import AnyNetwork

Size = tuple[int, int]
ARCHITECTURE = "architecture.yaml"


def count(
    name: Annotated[
        str,
        typer.Argument(
            help="A backbone's name, a shipped space's, or a path: of a space file, of an "
            "architecture.yaml, of a run folder with one.",
            show_default=False,
        ),
    ],
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="HxW", help="Input size. Default: the network's own."),
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(help="dcsnas, fvcore, torchreid or papers. Default: all, as a table."),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(help="Kind at every position of a named network. Default: none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Count parameters and work of a network under this package's and others' conventions.

    Example: dcsnas count mobilenetv2_100 --input 256x128 --convention papers
    """
    size = parse_size(input_) if input_ else None
    network, own_size = _network(name, attention)
    from dcsnas.zoo.conventions import CONVENTIONS, count_under

    size = size or own_size
    chosen = [convention] if convention else list(CONVENTIONS)
    counted = {each: count_under(each, network, size) for each in chosen}
    if as_json:
        values: dict[str, Any] = {
            each: {"params": found.params, "macs": found.macs} for each, found in counted.items()
        }
        facts = {"name": name, "input": list(size)}
        said = {"convention": convention, **values[convention]} if convention else values
        return typer.echo(json.dumps({**facts, **said}))
    rows = [
        (each, f"{found.params:,}", f"{found.macs / 1e9:.4f}", f"{found.macs:,}")
        for each, found in counted.items()
    ]
    print_table(("convention", "params", "G", "operations"), rows)
    console.print(f"{name} for one image of {size[0]}x{size[1]}, without classifier.")
    for each in chosen:
        console.print(f"{each}: {CONVENTIONS[each].counts}.")


def _network(name: str, attention: str | None) -> "tuple[AnyNetwork, Size]":
    """Return the one network that ``name`` means, and its own input size; raises UserError."""
    path = Path(name)
    if (path / ARCHITECTURE).is_file():  # a folder without may have a network's name
        path = path / ARCHITECTURE
    if path.is_file() and _is_architecture(path):
        from dcsnas.spaces.architecture import load_architecture

        if attention:
            raise UserError("--attention: an architecture.yaml has its own; leave it out")
        file = load_architecture(path)
        return file.network, file.input
    from dcsnas.spaces.attention import NOTHING
    from dcsnas.spaces.space import load_space

    space = load_space(name, attention or NOTHING)
    if space.decisions:
        raise UserError(
            f"{name}: a space of many networks (10^{space.log10_size:.1f}), which count "
            f"differently; write one (dcsnas sample {name} --out architecture.yaml) and count that"
        )
    return space.any_architecture, space.size


def _is_architecture(path: Path) -> bool:
    from dcsnas.config.files import read_yaml

    content = read_yaml(path)
    return isinstance(content, dict) and "network" in content
