"""Finding the files that come with dcsnas by name, in a checkout or in an installed wheel."""

from pathlib import Path

from dcsnas.config.errors import UserError

PACKAGE = Path(__file__).parents[1]


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped ``search_spaces`` or ``experiments``."""
    in_checkout = PACKAGE.parent / kind
    return in_checkout if in_checkout.is_dir() else PACKAGE / "shipped" / kind


def shipped_spaces() -> list[Path]:
    """Return the shipped space files, sorted by name."""
    return sorted(shipped_folder("search_spaces").glob("*.yaml"))


def find_space(name: str) -> Path:
    """Return the file of a space given by path or shipped name; raises UserError."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = {shipped.stem: shipped for shipped in shipped_spaces()}
    if name not in known:
        raise UserError(
            f"no search space called '{name}'; shipped: {', '.join(sorted(known))}; "
            "or give the path of a .yaml file"
        )
    return known[name]
