"""Every benchmark can be imported, says its command, and has a main."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHARED = {"kept.py", "outcome.py", "short_runs.py", "steps.py", "synthetic_searches.py"}
SHARED |= {"chance_summary.py", "truth_summary.py"}


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(BENCHMARKS.rglob("*.py")) if p.name not in SHARED],
    ids=lambda p: p.stem,
)
def test_benchmark_can_be_imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = runpy.run_path(str(path))
    assert f"Command: .venv/bin/python {path.relative_to(BENCHMARKS.parent)}" in found["__doc__"]
    assert "The last line is one JSON object" in " ".join(found["__doc__"].split())
    assert callable(found["main"])
