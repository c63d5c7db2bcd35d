"""What lies in folders of images: every name is an image, a finding, or known to be nothing.

Known to be nothing are names that begin with a dot, and those that file managers leave.
"""

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from dcsnas.config.errors import UserError
from dcsnas.data.sets.faults import Fault, Finding, Level

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
OTHER_FORMATS = (
    *(".jpe", ".jfif", ".jp2", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif"),
    *(".ppm", ".pgm", ".pbm"),
)
_NOTHING = {"thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}


@dataclass(frozen=True)
class Contents:
    """The images of a folder, the folders in it, and findings of all else, by name."""

    images: tuple[Path, ...]
    folders: tuple[Path, ...]
    others: tuple[Finding, ...]


def look(folder: Path) -> Contents:
    """Return what lies directly in ``folder``; raises UserError where it cannot be listed."""
    images, folders, others = [], [], []
    for entry in _entries(folder):
        path, name = folder / entry.name, entry.name.lower()
        if _leads(entry.is_dir):
            folders.append(path)
        elif not _leads(entry.is_file):
            others.append(Finding(Fault.DANGLING if entry.is_symlink() else Fault.UNREAD, path))
        elif name.endswith(IMAGE_SUFFIXES):
            images.append(path)
        else:
            known = name.endswith(OTHER_FORMATS)
            others.append(Finding(Fault.UNREAD_FORMAT if known else Fault.UNREAD, path))
    return Contents(tuple(images), tuple(folders), tuple(others))


def look_below(*folders: Path) -> Contents:
    """Return what lies in ``folders`` at any depth; raises UserError for links in a circle."""
    return _together(one for folder in folders for one in _walk(folder, ()))


def unread(found: Contents) -> Iterator[Finding]:
    """Yield what is not read where images lie directly in a folder: other names, and subfolders."""
    yield from found.others
    for folder in found.folders:
        below = _together(_walk(folder, (folder.parent.resolve(),)))
        if below.images or below.others or folder.name.lower().endswith(IMAGE_SUFFIXES):
            more = f", {len(below.others):,} other files" if below.others else ""
            yield Finding(Fault.UNREAD_FOLDER, folder, f"{len(below.images):,} images{more}")


def _walk(folder: Path, way: tuple[Path, ...]) -> Iterator[Contents]:
    """Yield what lies in a folder, then in those in it; ``way`` are those that led here."""
    target = folder.resolve()
    if any(passed.is_relative_to(target) for passed in way):
        raise UserError(f"{folder}: links to {target}, in which it lies itself; remove the link")
    found = look(folder)
    yield found
    for inner in found.folders:
        yield from _walk(inner, (*way, target))


def _together(found: Iterable[Contents]) -> Contents:
    found = list(found)
    images = tuple(path for one in found for path in one.images)
    return Contents(images, (), tuple(finding for one in found for finding in one.others))


def refuse(findings: Iterable[Finding]) -> None:
    """Raise UserError where one of ``findings`` is an error."""
    errors = [finding for finding in findings if finding.fault.level is Level.ERROR]
    if errors:
        more = f" ({len(errors) - 1:,} more)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0].message}{more}")


def warn_of(root: Path, findings: Iterable[Finding]) -> None:
    """Warn once of all ``findings`` below ``root``, which are names that are not read."""
    names = [relative_to(finding.path, root) for finding in findings]
    if names:
        warnings.warn(
            f"{root}: not read as images ({', '.join(IMAGE_SUFFIXES)}): {listing(names)}; rename,"
            " move or convert those that are",
            stacklevel=3,
        )


def subfolders(root: Path) -> list[str]:
    """Return the sorted names of the folders in ``root``; raises UserError where it is none."""
    return [folder.name for folder in look(root).folders]


def absence(path: Path) -> str | None:
    """Return why no file can be read at ``path``; None where there is one."""
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "not a file"
    except FileNotFoundError:
        if path.is_symlink():
            return "a link that leads to no file"
        other = other_form(str(path), os.path.lexists)
        return f"no such file; {other}" if other else "no such file"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def other_form(name: str, exists: Callable[[str], bool]) -> str | None:
    """Say that a name exists that differs from ``name`` in its Unicode form alone; None if not."""
    forms = {form: normalize(form, name) for form in ("NFC", "NFD")}
    for form, other in forms.items():
        if other != name and exists(other):
            return f"one that looks the same has its letters in another Unicode form ({form})"
    return None


def listing(names: Iterable[str]) -> str:
    """Return names for a message: the first five and how many more, or 'none'."""
    names = list(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"


def relative_to(path: Path, root: Path) -> str:
    """Return ``path`` as seen from the data set ``root``, or as it is where it lies elsewhere."""
    folder = root if root.is_dir() else root.parent
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not _is_nothing(e.name)), key=lambda e: e.name)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no such folder; check the path of the data set, or draw one there: dcsnas "
            f"data render {folder}"
        ) from None
    except NotADirectoryError:
        raise UserError(f"{folder}: not a folder; check the path of the data set") from None
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be listed ({error.strerror}); make it a folder that you may read, or"
            " remove it"
        ) from None


def _is_nothing(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOTHING


def _leads(is_kind: Callable[[], bool]) -> bool:
    """Return what a directory entry says of itself, False for a link that cannot be followed."""
    try:
        return is_kind()
    except OSError:
        return False
