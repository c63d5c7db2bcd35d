"""``dcsnas sample``: one network of a space, without a search."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcsnas.cli.options import console, parse_size

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
