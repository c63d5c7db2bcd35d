"""Which classes of an image folder are used: all, some drawn by a seed, or those of a list."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_text, write_text
from dcsnas.config.images import ClassesConfig
from dcsnas.data.sets.folders import listing

CLASSES = "classes.txt"
"""Of a run: the classes that it knows."""


def chosen_classes(found: Sequence[str], config: ClassesConfig, folder: Path) -> list[str]:
    """Return the names of the classes to use, sorted, of those ``found`` in ``folder``.

    Raises UserError where there are not so many, or a list names others.
    """
    if config.file is not None:
        return listed_classes(config.file, found, folder)
    if config.count is None:
        return sorted(found)
    if config.count > len(found):
        raise UserError(
            f"data.classes.count is {config.count:,}, but {folder} has {len(found):,} classes; set "
            f"it to at most {len(found)}"
        )
    order = np.random.default_rng(config.seed).permutation(len(found))[: config.count]
    return sorted(sorted(found)[index] for index in order)


def listed_classes(file: Path, found: Sequence[str], folder: Path) -> list[str]:
    """Return the classes that ``file`` names, sorted: a line is a name, or begins with one.

    Lists of ImageNet-100 give a WordNet id in each line, some with the words it stands for. Raises
    UserError where a class is not among those ``found`` in ``folder``, or is named twice.
    """
    known = set(found)
    lines = [line.strip() for line in read_text(file).splitlines()]
    named = [line if line in known else line.split()[0].rstrip(",") for line in lines if line]
    absent = [name for name in named if name not in known]
    if absent:
        raise UserError(
            f"{file}: {len(absent):,} of its {len(named):,} classes are not in {folder}: "
            f"{listing(absent)}; correct the list, one class in a line"
        )
    twice = [name for name, times in Counter(named).items() if times > 1]
    if twice:
        raise UserError(f"{file}: named more than once: {listing(twice)}; leave one line of each")
    if len(named) < 2:
        raise UserError(f"{file}: names {len(named)} classes; at least two are needed")
    return sorted(named)


def write_class_names(folder: Path, names: Sequence[str]) -> None:
    """Write ``classes.txt`` in a run's folder, a list as ``data.classes.file`` takes it, by label.

    A data set whose classes have no names has none.
    """
    if names:
        write_text(folder / CLASSES, "".join(f"{name}\n" for name in names))
