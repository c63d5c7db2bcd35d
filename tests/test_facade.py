"""``import dcsnas as dn``: its names, what they load, and what the documentation says of them."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dcsnas as dn

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", dn.__all__)
def test_every_name_resolves_and_is_documented(name: str) -> None:
    found = getattr(dn, name)
    assert callable(found)
    assert len(inspect.getdoc(found) or "") > 20
    assert name in dir(dn)


def test_type_checkers_see_what_is_loaded() -> None:
    tree = ast.parse(inspect.getsource(dn))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"dcsnas.{home}" for name, home in dn._HOMES.items()}
    assert sorted(seen) == dn.__all__
    assert (Path(dn.__file__).parent / "py.typed").exists()


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'dcsnas' has no attribute 'serach'"):
        dn.serach  # type: ignore[attr-defined]  # noqa: B018


def fresh(code: str) -> str:
    """Return what a new interpreter prints."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_plain_values_come_without_torch() -> None:
    code = "import sys, dcsnas as dn; net = dn.load_space('tiny', attention='sa').sample(seed=1);"
    assert fresh(code + "print(net.cost().params, 'torch' in sys.modules)").split()[1] == "False"


@pytest.mark.parametrize(
    "before", ["", pytest.param("import dcsnas.search.run; ", marks=pytest.mark.slow)]
)
def test_search_is_a_function_and_a_package(before: str) -> None:
    code = f"import dcsnas as dn; {before}import inspect; dn.search; import dcsnas.search.run as r;"
    told = fresh(code + "print(list(inspect.signature(dn.search).parameters)[:3], r.__name__)")
    assert told == "['config', 'data', 'table'] dcsnas.search.run"


def test_calls_in_the_documentation_fit_the_signatures() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    session = "\n".join(re.findall(r"^```py\n(.*?)^```", page, re.M | re.S))
    kinds = {
        "dn": dn, "space": dn.SearchSpace, "table": dn.LatencyTable, "run": dn.SearchRun,
        "trained": dn.TrainedRun, "net": dn.ArchitectureFile,
    }  # fmt: skip
    checked = set()
    for call in (node for node in ast.walk(ast.parse(session)) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
            continue
        owner, name = call.func.value.id, call.func.attr
        if owner not in kinds:
            continue
        own = [] if owner == "dn" else [None]  # self
        keywords = {str(keyword.arg): None for keyword in call.keywords}
        inspect.signature(getattr(kinds[owner], name)).bind(*own, *call.args, **keywords)
        checked.add(name)
    assert checked >= {"load_space", "sample", "profile", "search", "derive", "train", "embed"}
