"""Is attention better placed by a search than as the papers place it, at the same latency?

Command: .venv/bin/python benchmarks/attention_placement.py --data lpc_reid.tar.gz --out DIR

Two spaces of ``tiny``'s widths: ``searched``, in which every position chooses among none, sa and
dcs, and ``papers``, which has dcs at each of them. For one latency and four seeds each is searched
by the short recipe (``short_runs.py``), and the derived network trained twice. Both predict with
one table, measured here. A stopped benchmark continues in its folder. About 50 minutes of one core.
The last line is one JSON object with every score and the difference, searched - papers, by seed.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from dcsnas.latency.allocator import reexec_with_allocator

if __name__ == "__main__":
    reexec_with_allocator(sys.orig_argv)

from outcome import conclude
from short_runs import QUICK, Bench, Plan, opened_table, targets_of, unpacked

from dcsnas.config.environment import quiet_libraries
from dcsnas.config.files import write_yaml
from dcsnas.evaluation.paired import paired_difference
from dcsnas.spaces.space import SearchSpace, load_space

KINDS = {"searched": ["none", "sa", "dcs"], "papers": "dcs"}
TRAININGS = 2


def spaces_in(root: Path) -> dict[str, Path]:
    """Return the files of the two spaces, written to ``root`` where they are not there."""
    found = {}
    for arm, kinds in KINDS.items():
        found[arm] = root / f"{arm}.yaml"
        if not found[arm].exists():
            file = load_space("tiny", kinds).file.model_copy(update={"name": f"tiny_{arm}"})
            write_yaml(found[arm], file.model_dump(mode="json", exclude_none=True))
    return found


def rows_of(bench: Bench, arm: str, target: float) -> list[dict[str, Any]]:
    """Return every training of the networks that one arm's searches derive."""
    rows = []
    for seed in range(bench.plan.seeds):
        derived = bench.searched(target, seed)
        chosen = derived.provenance.choice.items()
        kinds = {label: option for label, option in chosen if isinstance(option, str)}
        for training in range(TRAININGS):
            name = f"{target:.3f}-seed{seed}-training{training}"
            scores = bench.scores(derived, training, name)
            named = {"target_ms": target, "seed": seed, "training": training, "kinds": kinds}
            rows.append({"arm": arm, **named, **scores})
    return rows


def by_search(rows: list[dict[str, Any]], arm: str) -> list[float]:
    """Return the mean mAP of each search's network, by target and seed."""
    scores: dict[tuple[float, int], list[float]] = {}
    for row in rows:
        if row["arm"] == arm:
            scores.setdefault((row["target_ms"], row["seed"]), []).append(row["map"])
    return [mean(scores[key]) for key in sorted(scores)]


def measure(root: Path, data: Path, plan: Plan) -> dict[str, Any]:
    """Return every score, and the difference of the arms."""
    root.mkdir(parents=True, exist_ok=True)
    files = spaces_in(root)
    table = opened_table(root, SearchSpace.load(files["searched"]))
    rows: list[dict[str, Any]] = []
    for target in targets_of(table, plan):
        for arm, file in files.items():
            folder = root / arm
            folder.mkdir(exist_ok=True)
            if not (folder / "table.json").exists():
                (folder / "table.json").symlink_to(root.resolve() / "table.json")
            bench = Bench(folder, unpacked(data, root), plan, table, (f"space={file}",))
            rows += rows_of(bench, arm, target)
    gain = paired_difference(*(by_search(rows, arm) for arm in KINDS))
    return {
        "searched_minus_papers": gain.record(),
        **{f"{arm}_map": mean(by_search(rows, arm)) for arm in KINDS},
        "trainings": TRAININGS,
        "rows": rows,
        "table_digest": table.digest,
        "conditions": table.file.conditions.model_dump(mode="json"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder, or an archive of one")
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs and the result")
    parser.add_argument("--quick", action="store_true", help="two seeds, few epochs")
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    quiet_libraries()
    plan = replace(QUICK if options.quick else Plan(seeds=options.seeds), shares=(0.4,))
    conclude(measure(options.out, options.data, plan), options.out / "result.json")


if __name__ == "__main__":
    main()
