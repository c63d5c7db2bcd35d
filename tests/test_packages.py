"""Wheel and sdist, installed into an empty environment, work from outside of the repository.

The environment sees the libraries of the present one, which would be gigabytes to load again, but
not its dcsnas.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from dcsnas import __version__

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist of the project in ``source``."""
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (made,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the sdist of this checkout's tracked files, and the wheel that it builds."""
    folder = tmp_path_factory.mktemp("packages")
    tree, unpacked = folder / "tree", folder / "unpacked"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0")[:-1]:
        if (ROOT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    sdist = build("sdist", tree, folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    return sdist, build("wheel", next(unpacked.iterdir()), folder / "wheel")


@pytest.fixture(scope="module")
def python(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment with the wheel."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=True)
    place = home / "bin" / "python"
    install = [place, "-m", "pip", "install", "-q", "--no-deps", "--no-index", packages[1]]
    subprocess.run(install, check=True, capture_output=True, env=clean(), timeout=300)
    site = next((home / "lib").glob("python*/site-packages"))
    # a path that a .pth file adds comes after the environment's own, and .pth files in it, such as
    # that of an editable dcsnas, are not read
    (site / "others.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return place


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(python: Path, folder: Path, *arguments: str) -> str:
    program = python.with_name("dcsnas")
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=clean(), capture_output=True, text=True,
        check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sdist_has_what_a_reader_wants(packages: tuple[Path, Path]) -> None:
    with tarfile.open(packages[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "docs/index.md"} <= names
    assert not [name for name in names if name.startswith((".venv", "docs/_build", "runs/"))]


def test_wheel_has_the_package_and_the_shipped_files(packages: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(packages[1]) as archive:
        names = set(archive.namelist())
    code = {str(f.relative_to(ROOT)) for f in (ROOT / "dcsnas").rglob("*.py")}
    assert code <= names
    shipped = {"search_spaces/tiny.yaml", "experiments/search_tiny.yaml"}
    assert {f"dcsnas/shipped/{name}" for name in shipped} <= names
    assert {"dcsnas/py.typed", "dcsnas/reports/page.html"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_it_is_the_wheel_that_runs(python: Path, tmp_path: Path) -> None:
    where = "import dcsnas; print(dcsnas.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, env=clean(),
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(python.parents[1])
    assert run(python, tmp_path, "--version").strip() == f"dcsnas {__version__}"
    assert "fbnetv2" in run(python, tmp_path, "spaces", "fbnetv2")


def test_quick_demo_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    said = run(python, tmp_path, "demo", "--quick", "--out", "demo")
    assert "everything runs here" in said
    assert (tmp_path / "demo" / "report.md").exists()
    assert (tmp_path / "demo" / "summary.json").exists()


def test_versions_and_dates_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
    (released,) = re.findall(r'^date-released: "(.*)"$', citation, re.M)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (version, date), *_ = re.findall(r"^## (\S+) \((.*?)\)$", changes, re.M)
    assert (version, date) == (__version__, released)
