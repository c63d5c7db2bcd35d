"""The documentation runs: commands have options that exist, Python examples execute."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dcsnas.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(text: str) -> list[list[str]]:
    joined = text.replace("\\\n", " ")
    lines = re.findall(r"^#?\s*(?:Command: )?(dcsnas .*)$", joined, re.M)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def find(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the command that ``arguments`` start with, and the rest."""
    command: Any = get_command(app)
    while arguments and arguments[0].startswith("--"):  # those of all commands take a value each
        assert arguments[0] in {o for parameter in command.params for o in parameter.opts}
        arguments = arguments[2:]
    while hasattr(command, "commands") and arguments:
        assert arguments[0] in command.commands, f"no command {arguments[0]}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@pytest.mark.parametrize("page", [*PAGES, *EXPERIMENTS], ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    text = page.read_text() if page.suffix == ".yaml" else "".join(blocks(page, ""))
    for arguments in commands(text):
        command, rest = find(arguments)
        known = {option for parameter in command.params for option in parameter.opts}
        known |= {option for p in command.params for option in p.secondary_opts} | {"--help"}
        for option in (argument.split("=")[0] for argument in rest if argument.startswith("--")):
            assert option in known, f"{page.name}: dcsnas {arguments} has no {option}"


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
