"""``dcsnas derive``: from probabilities to an architecture."""

from pathlib import Path
from typing import Annotated

import typer

from dcsnas.cli.options import console


def derive(
    run: Annotated[Path, typer.Argument(help="Run folder of dcsnas search.")],
    out: Annotated[Path | None, typer.Option(help="Default: architecture.yaml in the run.")] = None,
) -> None:
    """Write the most probable architecture of a search.

    Example: dcsnas derive runs/search-0000-search_tiny
    """
    from dcsnas.config.files import require_file_path
    from dcsnas.search.derive import derive as derive_run
    from dcsnas.spaces.architecture import save_architecture

    path = out or run / "architecture.yaml"
    require_file_path(path)
    found = derive_run(run)
    save_architecture(path, found)
    console.print(
        f"{path}: {found.params / 1e6:.3f} M parameters, {found.macs / 1e9:.4f} GMACs, "
        f"predicted {found.provenance.predicted_latency_ms:.3f} ms "
        f"at batch {found.provenance.latency_batch}"
    )
