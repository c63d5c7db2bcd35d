"""The package's layers: who imports whom, how long files are, what stays out of the core."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    *("config", "spaces", "nn", "zoo", "losses", "latency", "data", "evaluation", "deployment"),
    *(
        "tasks",
        "training",
        "detection",
        "search",
        "plots",
        "experiments",
        "doctor",
        "reports",
        "demo",
    ),
    *("api", "cli"),
]
ONLY_IN = {
    "nni.nas": {"search"},
    "nni.experiment": {"experiments"},
    "matplotlib": {"plots"},
    "pandas": {"plots", "experiments"},
    "timm": {"zoo"},
    "torchvision": {"zoo", "detection"},
    "pycocotools": {"detection"},
    "fvcore": {"zoo"},
}
WITHOUT_TORCH = {"config", "spaces"}
BEFORE_ANY_NAME = ("sys", "importlib", "types", "typing", "dcsnas.torchvision_compat")
"""What ``dcsnas/__init__.py`` imports; the rest when a name is used, or for type checkers."""
BELOW_ALL = ("__", "torchvision_compat")
"""What the package itself holds, and what it imports before any name is used."""
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50


def files_of(root: Path) -> list[Path]:
    return sorted((root / "dcsnas").rglob("*.py"))


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def imports_in(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name); ``from a import b`` gives ``a.b``, since b may be a module."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(parsed(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def for_type_checkers(file: Path) -> set[int]:
    """Return the lines of a file below ``if TYPE_CHECKING``."""
    blocks = (
        node
        for node in ast.walk(parsed(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return {line for node in blocks for line in range(node.lineno, (node.end_lineno or 0) + 1)}


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def mistake(package: str, name: str) -> str | None:
    """Return what is wrong with ``package`` importing ``name``."""
    parts = name.split(".")
    if parts[0] == "dcsnas" and len(parts) > 1 and not parts[1].startswith(BELOW_ALL):
        if parts[1] not in ORDER:
            return "is in no known package"
        if ORDER.index(parts[1]) > ORDER.index(package):
            return "points upwards"
    for module, packages in ONLY_IN.items():
        if is_within(name, module) and package not in packages:
            return f"belongs in {' or '.join(sorted(packages))} only"
    if package in WITHOUT_TORCH and is_within(name, "torch"):
        return "is torch in a package of plain values"
    return None


def check_imports(root: Path) -> tuple[int, list[str]]:
    """Return how many imports there are below ``root``/dcsnas, and what is wrong with them."""
    count, wrong = 0, []
    for file in files_of(root):
        where = file.relative_to(root / "dcsnas")
        package = where.parts[0] if len(where.parts) > 1 else "cli"
        for line, name in imports_in(file, root):
            count += 1
            found = mistake(package, name)
            if str(where) == "__init__.py" and line not in for_type_checkers(file):
                allowed = any(is_within(name, module) for module in BEFORE_ANY_NAME)
                found = None if allowed else "must not be imported in dcsnas/__init__.py"
            elif str(where) == "__init__.py":
                found = None if name.startswith("dcsnas.") else "is not of the façade"
            if found:
                wrong.append(f"dcsnas/{where}:{line}: {name} {found}")
    return count, wrong


def test_imports_point_one_way() -> None:
    count, wrong = check_imports(ROOT)
    assert count > 100, "the test sees hardly any import"
    assert not wrong, "\n".join(wrong)


def test_every_package_is_in_the_order() -> None:
    packages = {p.parent.name for p in (ROOT / "dcsnas").glob("*/__init__.py")}
    assert packages <= set(ORDER)
    assert {"config", "spaces", "nn"} <= packages


@pytest.mark.parametrize(
    ("where", "line", "expected"),
    [
        ("config/files.py", "from dcsnas.spaces.layers import Block", "points upwards"),
        ("spaces/space.py", "def f():\n    import dcsnas.nn.build", "points upwards"),
        ("spaces/space.py", "from dcsnas import search", "points upwards"),
        ("spaces/units.py", "from ..nn import block", "points upwards"),
        ("nn/build.py", "from nni.nas.evaluator.pytorch import Lightning", "belongs in search"),
        ("nn/build.py", "from nni import nas", "belongs in search"),
        ("search/__init__.py", "import nni.experiment", "belongs in experiments"),
        ("search/__init__.py", "import matplotlib.pyplot as plt", "belongs in plots"),
        ("cli/__init__.py", "import pandas as pd", "belongs in experiments or plots"),
        ("nn/build.py", "import timm", "belongs in zoo"),
        ("nn/build.py", "from dcsnas.zoo import counting", "points upwards"),
        ("spaces/units.py", "from torch import nn", "torch in a package of plain values"),
        ("__init__.py", "import json", "must not be imported"),
        ("__init__.py", "from dcsnas.api.stages import train", "must not be imported"),
        ("__init__.py", "def f():\n    from dcsnas.nn.build import build", "must not be imported"),
        ("__init__.py", "if TYPE_CHECKING:\n    import torch", "not of the façade"),
        ("demo/demo.py", "from dcsnas.api.stages import search", "points upwards"),
        ("nn/layers.py", "from dcsnas.tools import x", "no known package"),
    ],
)
def test_planted_import_is_found(tmp_path: Path, where: str, line: str, expected: str) -> None:
    shutil.copytree(
        ROOT / "dcsnas", tmp_path / "dcsnas", ignore=shutil.ignore_patterns("__pycache__")
    )
    before = set(check_imports(tmp_path)[1])
    planted = tmp_path / "dcsnas" / where
    with planted.open("a") as file:
        file.write(f"\n{line}\n")
    (found,) = set(check_imports(tmp_path)[1]) - before
    assert found.startswith(f"dcsnas/{where}:")
    assert expected in found


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after ``statement``."""
    code = f"import sys; {statement}; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_plain_values_load_without_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for package in sorted(WITHOUT_TORCH)
        for file in sorted((ROOT / "dcsnas" / package).glob("*.py"))
    ]
    assert len(modules) > 8
    loaded = loaded_after(f"import {', '.join(modules)}")
    assert "pydantic" in loaded
    assert not loaded & {"torch", "nni", "matplotlib", "pandas", "pytorch_lightning"}


def test_importing_dcsnas_loads_nothing_but_the_standard_library() -> None:
    loaded = loaded_after("import dcsnas") - loaded_after("pass")
    assert loaded - sys.stdlib_module_names == {"dcsnas"}


def test_files_are_short_and_named_for_what_they_hold() -> None:
    files = files_of(ROOT)
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(files) > 20
    assert not [f"{f}: {n} lines" for f, n in lines.items() if n > MAX_FILE_LINES]
    assert not [str(file) for file in files if file.name == "utils.py"]


def test_functions_are_short() -> None:
    count, long = 0, []
    for file in files_of(ROOT):
        for node in ast.walk(parsed(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count += 1
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{file}:{node.lineno}: {node.name} has {length} lines")
    assert count > 100
    assert not long, "\n".join(long)
