"""Runs the notebooks of this folder, each in a fresh folder: ``python run_notebooks.py``.

With ``--save`` their outputs are written into them. The first session has none in its file, since
its numbers are those of whoever runs it.
"""

import argparse
import base64
import io
import os
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
WITHOUT_OUTPUTS = ("first_session.ipynb",)
LIMIT_S = 600


def run(notebook: Path, *, save: bool) -> float:
    """Run all cells of a notebook and return how many seconds it took.

    It begins in an empty folder beside links to the repository's, so that a path such as
    ``../latency_tables`` leads where it leads here. Raises CellExecutionError where a cell does.
    """
    content = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as root:
        for folder in ("latency_tables", "search_spaces", "docs"):
            (Path(root) / folder).symlink_to(HERE.parent / folder)
        work = Path(root) / "examples"
        work.mkdir()
        started = time.monotonic()
        resources = {"metadata": {"path": str(work)}}
        client = NotebookClient(content, timeout=LIMIT_S, resources=resources)
        manager = client.create_kernel_manager()
        manager.transport, manager.ip = "ipc", f"{root}/kernel"  # sockets nobody else can reach
        client.execute()
    seconds = time.monotonic() - started
    if save and notebook.name not in WITHOUT_OUTPUTS:
        for cell in content.cells:
            cell.metadata.pop("execution", None)  # times of the day
            for output in cell.get("outputs", ()):
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = smaller(output["data"]["image/png"])
        nbformat.write(content, notebook)
    return seconds


def smaller(png: str) -> str:
    """Return a PNG in base64 with 256 colours, a third of its bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def main() -> None:
    """Run those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for notebook in given.notebooks or sorted(HERE.glob("*.ipynb")):
        print(f"{notebook.name}: {run(notebook, save=given.save):.0f} s", flush=True)


if __name__ == "__main__":
    main()
