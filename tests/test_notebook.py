"""The notebook runs from top to bottom, in a process of its own, and what it says is so.

By default on fewer people and for fewer epochs, which shows all but that training helps.
"""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_session.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
FACTS = """
import json, numpy
print(json.dumps({
    "cost": [net.cost().params, net.params],
    "maps": [list(m.shape) for m in model.feature_maps(images)],
    "ms": [smallest_ms, best.provenance.predicted_latency_ms, target_ms, free_ms],
    "map": [untrained.map, report.map],
    "record": report.record()["map"],
    "features": list(features.shape),
    "lengths": numpy.linalg.norm(features, axis=1).tolist(),
    "distance": max(found.features for found in exported.differences),
    "allocator": [table.file.conditions.allocator, __import__("dcsnas.latency.allocator",
        fromlist=["x"]).current_allocator()],
}))
"""


def test_it_holds_no_results_of_some_machine() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert CELLS[0]["cell_type"] == "markdown"


SHORTER = {
    "train_identities=40, test_identities=20, cameras=3, distractors=20": (
        "train_identities=16, test_identities=6, cameras=3, distractors=4"
    ),
    "epochs=8": "epochs=2",
    "epochs=16": "epochs=2",
    "best_of=3": "best_of=2",
}
"""What the short session has in place of what is written."""


@dataclass(frozen=True)
class Session:
    """The folder of a whole session, facts about its values, and whether it was a short one."""

    folder: Path
    facts: dict[str, Any]
    short: bool


@pytest.fixture(
    scope="module", params=["short", pytest.param("as written", marks=pytest.mark.slow)]
)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Return a session; the one as written takes 45 s of one core."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("session")
    cells = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    if request.param == "short":
        for written, instead in SHORTER.items():
            assert sum(cell.count(written) for cell in cells) == 1, written
            cells = [cell.replace(written, instead) for cell in cells]
    run = "import sys\nfor cell in sys.argv[1:]: exec(compile(cell, 'cell', 'exec'), globals())"
    done = subprocess.run(
        [sys.executable, "-c", run, *cells, FACTS],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "", "a session says nothing that its user can do nothing about"
    facts = json.loads(done.stdout.splitlines()[-1])  # epochs have said their lines before
    return Session(folder, facts, request.param == "short")


def test_what_it_computes(session: Session) -> None:
    facts = session.facts
    assert facts["cost"][0] == facts["cost"][1]
    assert [shape[2:] for shape in facts["maps"]] == [[16, 8], [8, 4], [4, 2]]
    smallest, derived, target, free = facts["ms"]
    assert 0 < derived <= target
    assert min(smallest, free) <= target <= max(smallest, free)
    untrained, trained = facts["map"]
    assert facts["record"] == trained
    if not session.short:
        assert trained > 1.5 * by_chance(session.folder / "people")
        assert trained > untrained
    queries = 3 * (6 if session.short else 20)
    assert facts["features"] == [queries, 256]
    assert facts["lengths"] == pytest.approx([1.0] * queries, abs=1e-5)
    assert facts["distance"] < 1e-5
    assert facts["allocator"][0] == facts["allocator"][1]


def test_files_lie_where_those_of_commands_do(session: Session) -> None:
    folder = session.folder
    assert sorted(path.name for path in folder.iterdir()) == ["latency_tables", "people", "runs"]
    (table,) = (folder / "latency_tables").iterdir()
    assert table.name.startswith("tiny-")
    assert table.name.endswith("-eager-64x32-b8-sparse.json")
    search, retrain = (
        folder / "runs/search-0000-search_tiny",
        folder / "runs/retrain-0000-retrain_tiny",
    )
    assert {"config.yaml", "architecture.yaml", "supernet.safetensors"} <= names(search)
    assert {"model.safetensors", "model.onnx", "inherited.json"} <= names(retrain)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def by_chance(people: Path) -> float:
    """Return the expected mAP in percent of a random order of the gallery.

    Of n images, R of them right, it is (H_n + (R - 1) / (n - 1) (n - H_n)) / n with the harmonic
    number H_n: the mean over ranks i of the expected precision (1 + (i - 1) (R - 1) / (n - 1)) / i.
    """
    gallery = [path.name.split("_") for path in (people / "bounding_box_test").iterdir()]
    gallery = [(parts[0], parts[1][:2]) for parts in gallery if parts[0] != "-1"]
    scores = []
    for path in (people / "query").iterdir():
        identity, camera = path.name.split("_")[0], path.name.split("_")[1][:2]
        others = [one for one in gallery if one != (identity, camera)]
        n, right = len(others), sum(one[0] == identity for one in others)
        harmonic = sum(1 / rank for rank in range(1, n + 1))
        scores.append((harmonic + (right - 1) / (n - 1) * (n - harmonic)) / n)
    return 100 * sum(scores) / len(scores)


def test_chance_is_that_of_random_orders(tmp_path: Path) -> None:
    right = [f"bounding_box_test/0001_c{camera}s1_0.jpg" for camera in (1, 2, 3)]
    wrong = [f"bounding_box_test/000{identity}_c2s1_0.jpg" for identity in range(2, 7)]
    for name in ("query/0001_c1s1_0.jpg", *right, *wrong):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    ranks = [sorted(random.sample(range(1, 8), 2)) for _ in range(20000)]
    drawn = sum((1 / first + 2 / second) / 2 for first, second in ranks) / len(ranks)
    assert by_chance(tmp_path) == pytest.approx(100 * drawn, rel=0.01)
