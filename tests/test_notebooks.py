"""The notebooks with pictures: what lies in their files was made by the cells beside it.

They are run from top to bottom by ``make notebooks``; the first session has tests of its own.
"""

import ast
import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURED = {"own_space": 3, "latency_table": 4, "attentions": 4}


def code_cells(name: str) -> list[dict[str, Any]]:
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_every_notebook_is_known() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {*PICTURED, "first_session"}


@pytest.mark.parametrize(("name", "pictures"), PICTURED.items())
def test_cells_were_run_in_order_and_kept_their_pictures(name: str, pictures: int) -> None:
    cells = code_cells(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    found = []
    for cell in cells:
        source = "".join(cell["source"])
        ast.parse("\n".join(line for line in source.splitlines() if not line.startswith("%")))
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", "what a reader can do nothing about"
            found += [png for kind, png in output.get("data", {}).items() if kind == "image/png"]
    assert len(found) == pictures
    sizes = [len(base64.b64decode(png)) for png in found]
    assert all(2_000 < size < 200_000 for size in sizes), sizes


@pytest.mark.parametrize("name", PICTURED)
def test_outputs_name_no_folder_of_the_machine_that_made_them(name: str) -> None:
    for cell in code_cells(name):
        shown = json.dumps(cell["outputs"])
        for output in cell["outputs"]:
            if png := output.get("data", {}).get("image/png"):
                shown = shown.replace(json.dumps(png), "")
        assert not [folder for folder in ("/root", "/tmp", "/home") if folder in shown]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PICTURED, "first_session"])
def test_it_runs_from_top_to_bottom(name: str) -> None:
    pytest.importorskip("nbclient")
    before = (EXAMPLES / f"{name}.ipynb").read_bytes()
    command = [sys.executable, EXAMPLES / "run_notebooks.py", EXAMPLES / f"{name}.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}.ipynb: ")
    assert (EXAMPLES / f"{name}.ipynb").read_bytes() == before
