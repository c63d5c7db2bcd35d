"""The program in docs/deployment.md, word by word, in a process without torch and dcsnas.

That of a folder to deploy is tested in ``test_export_folder.py``.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsnas.deployment.embedding import Embedder
from dcsnas.deployment.export import export_onnx
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from deployment_setup import Networks

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DOCS = Path(__file__).parents[2] / "docs" / "deployment.md"
ALONE = """
import runpy, sys
for name in ("torch", "dcsnas", "onnx"):
    sys.modules[name] = None  # importing it fails
sys.argv = sys.argv[1:]
found = runpy.run_path(sys.argv[0])
import numpy
numpy.save("found.npy", found["features"])
"""


def run_alone(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", ALONE, "program.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def write_pictures(folder: Path) -> list[Path]:
    """Write large and small pictures of several kinds."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((300, 500), Image.Resampling.BICUBIC)
    pictures = {
        "large.jpg": scene,
        "small.jpg": scene.resize((20, 40)),
        "other.jpg": Image.fromarray(255 - np.asarray(scene)),
        "palette.png": scene.convert("P"),
        "grey.png": scene.convert("L"),
        "alpha.png": scene.convert("RGBA"),
        "deep.png": Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257),
        "print.jpg": scene.convert("CMYK"),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    return [folder / name for name in pictures]


def test_example_gives_the_features_of_embed(networks: Networks, tmp_path: Path) -> None:
    """Of every kind of picture, one of 16 bits among them (faults 1)."""
    weights = networks.save("model.safetensors", SearchSpace.load(find_space("tiny")))
    export_onnx(weights, tmp_path / "model.onnx")
    files = write_pictures(tmp_path)
    (program,) = re.findall(r"^```py\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    done = run_alone(tmp_path, program, "model.onnx", *(path.name for path in files))
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npy")
    expected = Embedder(weights, device="cpu").embed(files)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert done.stdout.strip() == str(found @ found.T)
    assert np.abs(expected[0] - expected[2]).max() > 0.02, "the pictures are told apart"


def test_alone_means_without_torch_and_dcsnas(tmp_path: Path) -> None:
    for name in ("torch", "dcsnas.nn.heads"):
        done = run_alone(tmp_path, f"import {name}")
        assert done.returncode == 1
        assert "ModuleNotFoundError" in done.stderr
