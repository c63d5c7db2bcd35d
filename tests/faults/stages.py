"""The stages that are disturbed: their inputs, their commands, and when two ends are the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dcsnas.config.files import read_json
from dcsnas.latency.table import save_table
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.sampling import largest_choice
from faults import experiments
from latency_fakes import fake_table
from reid_data import write_class_folder, write_reid_set
from search_setup import micro_space, small_search

SPACE = micro_space()
OUT = "out"
"""The folder of a case that a stage writes to; the full disk and the read-only folder."""
UNEQUAL = {"environment.json", "last.ckpt", "writer.lock"}
"""Files of equal runs that differ: when and where each was started, and what it kept to go on."""
TRAINED = {
    "epochs": 4,
    "augment": {"pad": 1, "mixup": 0.5},
    "optimizer": {"name": "sgd", "lr": 0.3, "schedule": "constant", "weight_decay": 0.0},
    "run": {"checkpoint_minutes": 0.001, "seed": 1, "device": "cpu", "threads": 1},
}
REID = {
    "batch": {"identities": 4, "images": 2},
    "loss": {"ib_size": [4, 2], "eta": 0.5, "eta_warmup": 0.0},
}
VARIANTS = {
    "plain": {"network": "space.yaml", "attention": "none"},
    "dcs": {"network": "space.yaml", "attention": "dcs"},
}


def write_inputs(folder: Path) -> None:
    """Write what all stages read: data sets, a space, its table, configurations, a network."""
    people = {"root": "people", "workers": 2}
    write_reid_set(folder / "people", identities=8, images=6)
    write_class_folder(folder / "classes", images=8)
    table = fake_table(SPACE)
    save_table(folder / "table.json", table.file)
    save_architecture(
        folder / "architecture.yaml",
        architecture_of(SPACE, largest_choice(SPACE), table=table, seed=0),
    )
    scored = {"validation": {"every": 2, "hold_out": 0.3333}, "ema": 0.5}
    alone = {"root": "people", "workers": 0}
    search = small_search(Path(), data=alone, validate_every=2).model_dump(mode="json")
    recipe = {**TRAINED, **REID, "data": alone, "epochs": 2}
    contents: dict[str, Mapping[str, Any]] = {
        "sweep": experiments.sweep({**search, "epochs": 2}),
        "space": SPACE.file.model_dump(mode="json"),
        "search": search,
        "retrain": {**TRAINED, **REID, **scored, "data": people},
        "pretrain": {**TRAINED, "data": {"root": "classes", "workers": 0}, "batch_size": 8},
        "ablate": {"recipe": recipe, "timed_rounds": 0, "seeds": [0, 1], "variants": VARIANTS},
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(dict(content), sort_keys=False))


def same_files(found: Path, whole: Path) -> str | None:
    """Return the first difference of two folders of results; None where they are bit-equal.

    But for the path of a case's folder, which some files name.
    """
    names = [
        {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and _counts(p)}
        for root in (found, whole)
    ]
    if names[0] != names[1]:
        return f"files differ: {sorted(names[0] ^ names[1])[:4]}"
    for name in sorted(names[0]):
        if Path(name).name in UNEQUAL:
            continue
        one, other = (
            (root / name).read_bytes().replace(bytes(root.parent), b"") for root in (found, whole)
        )
        if one != other:
            return f"{name} differs"
    return None


def _counts(path: Path) -> bool:
    """Return whether equal runs have this file alike; curves for TensorBoard are by process."""
    return path.parent.name != "tensorboard"


def same_table(found: Path, whole: Path) -> str | None:
    """Return the first difference of two tables but for the times, which no two runs share."""
    names = [sorted(p.name for p in root.iterdir()) for root in (found, whole)]
    if names[0] != names[1]:
        return f"files differ: {names[0]}, {names[1]}"
    tables = [_without_times(read_json(root / "table.json")) for root in (found, whole)]
    keys = [key for key in tables[0] if tables[0][key] != tables[1][key]]
    return f"table.json differs in {', '.join(keys)}" if keys else None


def _without_times(table: dict[str, Any]) -> dict[str, Any]:
    plain = {key: table[key] for key in ("space", "settings", "failed")}
    # a program starts itself over with another allocator
    conditions = {key: value for key, value in table["conditions"].items() if key != "allocator"}
    choices = [one["choice"] for one in table["calibration"]["networks"]]
    return {
        **plain,
        "conditions": conditions,
        "choices": choices,
        "entries": sorted(table["entries"]),
    }


@dataclass(frozen=True)
class Stage:
    """A command that writes to ``out``, and how its end is compared with another's."""

    arguments: tuple[str, ...]
    difference: Callable[[Path, Path], str | None] = same_files
    weight: int = 2
    """How often it is drawn."""
    next_command: Callable[[Path], tuple[str, ...] | None] | None = None
    """By what is in a case's folder, where the command does not tell how it is continued."""
    leave: Callable[[Path], None] = lambda folder: None
    """End what the stage has left running, by design."""
    codes: frozenset[int] = frozenset()
    """With which it ends beside 0 and 2."""


WEIGHTS = ("retrain", "retrain.yaml", "--arch", "architecture.yaml", "--set", "epochs=2")
"""What trains the weights that ``evaluate`` takes."""
TRAINING = ("--arch", "architecture.yaml", "--out", "out/run")
STAGES = {
    "profile": Stage(
        ("profile", "space.yaml", "--rounds", "2", "--out", "out/table.json"), same_table, weight=1
    ),
    "search": Stage(("search", "search.yaml", "--allow-foreign", "--out", "out/run")),
    "pretrain": Stage(("pretrain", "pretrain.yaml", *TRAINING)),
    "retrain": Stage(("retrain", "retrain.yaml", *TRAINING)),
    "ablate": Stage(("ablate", "ablate.yaml", "--data", "people", "--out", "out/run")),
    "render": Stage(
        ("data", "render", "out/people", "--train-identities", "12", "--test-identities", "4",
         "--distractors", "6", "--junk", "2", "--height", "32", "--width", "16")
    ),
    "evaluate": Stage(
        ("evaluate", "model.safetensors", "--data", "people", "--device", "cpu", "--no-latency",
         "--out", "out/metrics.json")
    ),
    "experiment": Stage(
        experiments.START, experiments.same_trials, weight=1,
        next_command=experiments.next_command, leave=experiments.end_all, codes=frozenset({1}),
    ),
}  # fmt: skip
