"""The command line as it describes itself, one section a command."""

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from dcsnas.cli.main import app


def walk() -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, command, its context) of every command, in the order of the help."""
    yield from _below(get_command(app), "dcsnas", None)


def _below(command: Any, name: str, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = command.context_class(command, info_name=name, parent=parent)
    if not hasattr(command, "commands"):
        yield context.command_path, command, context
        return
    for below in command.list_commands(context):
        yield from _below(command.commands[below], below, context)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, but for its code between backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([<>*_\[\]$|\\])", r"\\\1", part)
        for part in parts
    )


def page(_: str) -> str:
    """Return a section for each command, and one for the options before any of them."""
    root = get_command(app)
    context = root.context_class(root, info_name="dcsnas", parent=None)
    sections = ["## dcsnas", "Options before any command.", *_list(root, context)]
    for path, command, its in walk():
        sections += ["", *section(path, command, its)]
    return "\n".join(sections)


def section(path: str, command: Any, context: Any) -> list[str]:
    """Return the section of a command: usage, what it does, an example, arguments and options."""
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    text, _, example = (command.help or "").partition("Example:")
    lines = [f"## {path}", "", "```text", usage, "```", "", escaped(text.strip()), ""]
    if example:
        lines += ["```console", f"$ {' '.join(example.split())}", "```", ""]
    return [*lines, *_list(command, context)]


def _list(command: Any, context: Any) -> list[str]:
    lines = [""]
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        name, told = parameter.get_help_record(context)
        lines += [f"`{name}`", f": {escaped(told)}", ""]
    return lines
