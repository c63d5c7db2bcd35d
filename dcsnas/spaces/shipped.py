"""Finding the files that come with dcsnas by name, in a checkout or in an installed wheel."""

from pathlib import Path

from dcsnas.config.errors import UserError

PACKAGE = Path(__file__).parents[1]


def shipped_folder(kind: str) -> Path:
    """Return the folder of shipped ``search_spaces`` or ``experiments``."""
    in_wheel = PACKAGE / "shipped" / kind
    return in_wheel if in_wheel.is_dir() else PACKAGE.parent / kind


def shipped_spaces() -> list[Path]:
    """Return the shipped space files, sorted by name."""
    return sorted(shipped_folder("search_spaces").glob("*.yaml"))


def shipped_names() -> list[str]:
    """Return the names of the shipped spaces."""
    return [path.stem for path in shipped_spaces()]


def find_space(name: str) -> Path:
    """Return the file of a space given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("search_spaces"), "search space")


def find_experiment(name: str) -> Path:
    """Return the file of a configuration given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments"), "configuration")


def find_sweep(name: str) -> Path:
    """Return the file of a sweep given by path or shipped name; raises UserError."""
    return _find(name, shipped_folder("experiments") / "nni", "sweep")


def _find(name: str, folder: Path, kind: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    known = {shipped.stem: shipped for shipped in folder.glob("*.yaml")}
    if name not in known:
        raise UserError(
            f"no {kind} called '{name}'; shipped: {', '.join(sorted(known))}; "
            "or give the path of a .yaml file"
        )
    return known[name]
