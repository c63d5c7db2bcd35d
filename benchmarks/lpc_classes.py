"""A class-labelled image folder of pictures drawn by others, from a set in Market-1501's layout.

Command: .venv/bin/python benchmarks/lpc_classes.py lpc_reid --out data/lpc_classes

The names of its files carry who is drawn and which of four views it is, and nothing else; so a
class is a character, and of its pictures from each view one in four is for ``val``. With ``--label
view`` the four views are the classes instead, and ``val`` is of characters that are not in
``train``. Files are linked, or copied with ``--copy``. The last line is one JSON object with the
counts.
"""

import argparse
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

from dcsnas.data.reid import read_reid
from dcsnas.data.sets.scan import Sample

EVERY = 4
"""Of the pictures of a character from a view, in the order of their names, one in so many."""


def by_character(samples: list[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """Return the samples by split and class, every character a class."""
    seen: Counter[tuple[int, int]] = Counter()
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda one: one.path.name):
        seen[sample.identity, sample.camera] += 1
        last = seen[sample.identity, sample.camera] % EVERY == 0
        name = f"character{sample.identity:04d}"
        found["val" if last else "train", name].append(sample)
    return found


def by_view(samples: list[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """Return the samples by split and class, every view a class; characters are in one split."""
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        split = "val" if sample.identity % EVERY == 0 else "train"
        found[split, f"view{sample.camera}"].append(sample)
    return found


WAYS = {"character": by_character, "view": by_view}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", type=Path, help="the unpacked set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--label", choices=WAYS, default="character")
    parser.add_argument("--copy", action="store_true")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out}: is there already; give another --out")
    counts: Counter[str] = Counter()
    classes = set()
    for (split, name), own in WAYS[options.label](list(read_reid(options.set).train)).items():
        folder = options.out / split / name
        folder.mkdir(parents=True)
        for sample in own:
            place = folder / sample.path.name
            if options.copy:
                shutil.copyfile(sample.path, place)
            else:
                place.symlink_to(sample.path.resolve())
        counts[split] += len(own)
        classes.add(name)
    print(json.dumps({"out": str(options.out), "classes": len(classes), **counts}))


if __name__ == "__main__":
    main()
