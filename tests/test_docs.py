"""The documentation runs: commands are the program's, Python examples execute.

What a command of the documentation does is shown elsewhere: of each there is a test that runs it
with that option (``NOT_RUN`` says of which not, and why); ``test_tutorials.py`` runs tutorials as
they stand.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dcsnas.cli.main import app
from dcsnas.config.detection import DetectConfig
from dcsnas.config.errors import UserError
from dcsnas.config.search import search_model, search_overrides
from dcsnas.config.stages import train_model
from dcsnas.config.strict import with_data
from dcsnas.config.tuning import TuneEtaConfig
from dcsnas.spaces.shipped import resolve
from dcsnas.training.ablation.settings import read_ablation

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def blocks(page: Path, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [text for name, text in fenced if name == language]


def commands(text: str) -> list[list[str]]:
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^#?\s*(?:Command: )?(dcsnas .*)$", joined, re.M)
    return [shlex.split(line, comments=True)[1:] for line in lines]


program = cache(lambda: get_command(app))


def find(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the command that ``arguments`` start with, and the rest."""
    command: Any = program()
    while arguments and arguments[0].startswith("--"):  # those of all commands take a value each
        assert arguments[0] in {o for parameter in command.params for o in parameter.opts}
        arguments = arguments[2:]
    while hasattr(command, "commands") and arguments:
        assert arguments[0] in command.commands, f"no command {arguments[0]}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


CONFIGURED = {
    "search": search_model,
    "retrain": lambda content: train_model("retrain", content),
    "pretrain": lambda content: train_model("pretrain", content),
    "tune-eta": TuneEtaConfig,
}
OF_DETECT = {"train": DetectConfig, "search": DetectConfig}
"""By a command: the model of its configuration."""
PLACES = ("DIR", "SET", "RUN", "...")
"""What stands for something of the reader's."""


def check_command(arguments: list[str]) -> None:
    """Have the program read a command, without running it: options, values, configuration."""
    command, rest = find(arguments)
    if hasattr(command, "commands") or "--help" in rest or set(rest) & set(PLACES[-1:]):
        return
    try:
        given = command.make_context(command.name, list(rest)).params
    except UserError:  # a file of the reader's that is not there
        return
    name, changes = given.get("config"), given.get("set_") or []
    if command.name == "ablate":
        read_ablation(name, data=given["data"], overrides=changes)
    models = OF_DETECT if arguments[0] == "detect" else CONFIGURED
    if arguments[0] == "--plugin" or command.name not in models:
        return
    if Path(name).suffix and not Path(name).is_relative_to("experiments"):
        return  # the reader's own
    own = search_overrides if models[command.name] is search_model else with_data
    resolve(models[command.name], name, own(changes, data=given["data"]))


@pytest.mark.parametrize("page", [*PAGES, *EXPERIMENTS], ids=lambda page: page.name)
def test_commands_are_read_by_the_program(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = page.read_text() if page.suffix == ".yaml" else "".join(blocks(page, ""))
    for arguments in commands(text):
        try:
            check_command(list(arguments))
        except Exception as error:
            raise AssertionError(f"{page.name}: dcsnas {shlex.join(arguments)}: {error}") from error


@pytest.mark.parametrize(
    "wrong",
    [
        "search search_tiny --dta people",
        "search search_tiny --set loss.etta=1",
        "search no_such_configuration",
        "evaluate runs/x --ap median --data people",
        "derive",
    ],
)
def test_a_wrong_command_is_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(Exception, match=r"\w"):
        check_command(shlex.split(wrong))


NOT_RUN = {
    ("plot", "--images"): "tests/plots/test_plot_seeing.py calls what it calls",
    ("plot", "--at"): "the same",
    ("report", "--measure"): "tests/experiments/test_experiment_report.py calls what it calls",
    ("report", "--budget-ms"): "the same",
}
"""Commands, or their options, that no test gives to the program, and why."""


def shown() -> Iterator[tuple[str, str | None]]:
    """Yield (command, option or None) of everything that the pages show."""
    for page in PAGES:
        for arguments in commands("".join(blocks(page, ""))):
            command, rest = find(list(arguments))
            if hasattr(command, "commands"):
                continue
            yield command.name, None
            for option in (part.split("=")[0] for part in rest if part.startswith("--")):
                yield command.name, option


@cache
def words_of_tests() -> tuple[frozenset[str], ...]:
    """Return of every file of tests the words of its strings."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("test_*.py")]
    return tuple(
        frozenset(
            word.split("=")[0]
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for word in (node.value, *node.value.split())
        )
        for file in files
        if file.name != Path(__file__).name
    )


def test_every_command_shown_is_run_by_a_test() -> None:
    missing = {
        (name, option)
        for name, option in set(shown())
        if option != "--help"
        and not any(name in words and (option or name) in words for words in words_of_tests())
    }
    assert missing == set(NOT_RUN)


def test_pages_show_commands() -> None:
    shown = {find(c)[0].name for page in PAGES for b in blocks(page, "") for c in commands(b)}
    assert {"spaces", "profile", "search", "derive", "pretrain", "retrain", "evaluate"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_hold_no_placeholders(page: Path) -> None:
    assert not re.findall(r"\b(TODO|TBD|FIXME|RESULTS\d*)\b", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for example in blocks(page, "python"):
        exec(compile(example, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for named in re.findall(
        r"`((?:dcsnas|tests|experiments|docs|search_spaces)/[\w./]+)`", page.read_text()
    ):
        assert (ROOT / named).exists(), f"{page.name} names {named}"
