"""``docs/threats.md`` names every place that executes something, and every listener."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
BUILT_IN = {"exec", "eval", "compile", "__import__"}
EXECUTES = {
    *("import_module", "popen", "Popen", "execve", "execv", "execvp", "execvpe", "spawnv"),
    *("load_module", "exec_module", "check_output", "check_call"),
}
"""Names of functions that run code or a program, whosever they are."""
WITH_OWNER = {
    **{"subprocess": {"run"}, "os": {"system"}, "pickle": {"load", "loads"}},
    **{"yaml": {"load"}, "torch": {"load", "compile"}, "np": {"load"}},
}
LISTENS = {"listener.listen", "listener.bind", "socket.create_server"}


def called(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, owner, name) of every call in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                yield node.lineno, ast.unparse(function.value), function.attr
            elif isinstance(function, ast.Name):
                yield node.lineno, "", function.id


def executing(root: Path) -> list[str]:
    """Return the files below ``root`` in which something is executed, with the call."""
    found = []
    for file in sorted(root.rglob("*.py")):
        for line, owner, name in called(file):
            own = name in BUILT_IN if not owner else name in WITH_OWNER.get(owner, ())
            if own or name in EXECUTES:
                found.append(f"{file.relative_to(root)}:{line}: {owner}.{name}".replace(" .", " "))
    return found


def is_named(place: str) -> bool:
    """Return whether the page names the file of a place, or its folder."""
    path = Path(place.partition(":")[0])
    names = {str(path), path.name, f"{path.parent}/"}
    return any(re.search(rf"`(?:[^`]*/)?{re.escape(name)}`", PAGE) for name in names)


def test_every_place_that_executes_something_is_on_the_page() -> None:
    found = executing(ROOT / "dcsnas")
    assert len(found) > 10
    assert not [place for place in found if not is_named(place)]


@pytest.mark.parametrize(
    "line", ["eval(text)", "subprocess.run(['x'])", "pickle.loads(x)", "os.system('x')"]
)
def test_a_planted_place_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "space_reader.py").write_text(f"def read(text):\n    return {line}\n")
    (found,) = executing(tmp_path)
    assert not is_named(found)


def test_weights_are_loaded_without_code() -> None:
    loads = [
        ast.unparse(node)
        for file in (ROOT / "dcsnas").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load")
    ]
    assert len(loads) >= 2
    assert all("weights_only=True" in one for one in loads)


def test_two_files_of_ours_bind_a_port() -> None:
    places = {
        str(file.relative_to(ROOT / "dcsnas"))
        for file in (ROOT / "dcsnas").rglob("*.py")
        for _, owner, name in called(file)
        if f"{owner}.{name}" in LISTENS
    }
    looks_for_a_free_one, store_of_a_run = (
        "experiments/nni_manager.py",
        "training/process_failures.py",
    )
    assert places == {looks_for_a_free_one, store_of_a_run}
