"""Modules that are named on the command line: imported, noted, handed on to new processes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcsnas.config import plugins
from dcsnas.config.errors import UserError
from dcsnas.config.plugins import load_named, new_processes, registered


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a folder of the test's own, and leave neither path, names nor modules behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, named = set(sys.modules), list(plugins.named)
    yield
    plugins.named[:] = named
    for module in set(sys.modules) - modules:
        del sys.modules[module]


def write(name: str, text: str) -> None:
    Path(f"{name}.py").write_text(text)


def test_modules_of_the_working_folder_are_imported_once_and_noted_in_order() -> None:
    write("first_plugin", "loaded = 0")
    write("second_plugin", "import first_plugin\nfirst_plugin.loaded += 1")
    load_named(["second_plugin", "first_plugin"])
    load_named(["second_plugin"])
    assert plugins.named[-2:] == ["second_plugin", "first_plugin"]
    assert sys.modules["first_plugin"].loaded == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "ModuleNotFoundError: No module named 'broken_plugin'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    text: str | None, reason: str
) -> None:
    if text is not None:
        write("broken_plugin", text)
    with pytest.raises(UserError) as caught:
        load_named(["broken_plugin"])
    assert str(caught.value).startswith(f"--plugin broken_plugin: cannot be imported ({reason}")
    assert "broken_plugin" not in plugins.named


def loaded() -> set[str]:
    return {name for name in sys.modules if name.endswith("_plugin")}


def test_new_processes_have_the_plugins_of_this_one() -> None:
    write("handed_plugin", "")
    write("other_plugin", "")
    load_named(["handed_plugin"])
    with new_processes(1) as pool:
        assert pool.submit(loaded).result() == {"handed_plugin"}


def test_what_is_not_registered_is_refused_with_what_is() -> None:
    registry = {"one": 1, "two": 2}
    assert registered(registry, "two", "number") == 2
    for name in ("three", ["one"]):
        with pytest.raises(UserError) as caught:
            registered(registry, name, "number")
        assert str(caught.value).startswith(f"number {name!r} is none of one, two; where another ")


def test_the_current_folder_takes_no_other_modules_place() -> None:
    """A sibling of faults 8: a plugin lies beside a file that has the name of a module."""
    write("colorsys", "raise RuntimeError('imported')")
    write("beside_plugin", "import colorsys\nloaded = colorsys.__file__")
    load_named(["beside_plugin"])
    assert not Path(sys.modules["beside_plugin"].loaded).is_relative_to(Path.cwd())


def test_a_plugin_that_another_module_hides_is_refused() -> None:
    write("colorsys", "")
    with pytest.raises(UserError, match=r"--plugin colorsys: colorsys\.py is hidden by .*colorsys"):
        load_named(["colorsys"])
    assert "colorsys" not in plugins.named
