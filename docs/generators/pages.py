"""Parts of pages that only the site has, in comments that readers of plain Markdown do not see.

``<!-- made: NAME ARGUMENT -->`` is replaced by what a generator of ``MADE`` returns, and of
``<!-- site ... -->`` the inside is taken, such as a table of contents.
"""

import re
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx

from generators import commands, configuration, facade, files, messages

MADE: dict[str, Callable[[str], str]] = {
    "commands": commands.page,
    "configuration": configuration.page,
    "facade": facade.page,
    "file": files.page,
    "messages": messages.page,
}
"""Markdown by the name and the argument of its mark."""

ROOT = Path(__file__).parents[2]
OF_ROOT = {
    "contributing": "CONTRIBUTING.md",
    "release_notes": "CHANGELOG.md",
    "security": "SECURITY.md",
}
"""Pages that are files of the repository's root, where people and programs look for them."""


def of_root(name: str) -> str:
    """Return a file of the root as a page of the site: its links are those from ``docs/``."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"(\]\()(?!https?:|#|mailto:)([^)]+)", _from_docs, text)


def _from_docs(link: re.Match[str]) -> str:
    target = link[2]
    return link[1] + (
        target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
    )


def on_site(text: str) -> str:
    """Return a page whose links to files of the root lead to their pages."""
    names = {name: page for page, name in OF_ROOT.items()} | {"README.md": "index"}
    return re.sub(
        r"\]\(((?:\.\./)+)(\w+\.md)",
        lambda link: f"]({link[1][3:]}{names[link[2]]}.md" if link[2] in names else link[0],
        text,
    )


def filled(text: str) -> str:
    """Return a page with its marks replaced; raises KeyError for an unknown one."""
    text = re.sub(r"^<!-- site\n(.*?)^-->$", r"\1", text, flags=re.M | re.S)
    return re.sub(
        r"^<!-- made: (\w+) ?(.*?) ?-->$",
        lambda mark: MADE[mark[1]](mark[2]),
        text,
        flags=re.M,
    )


def _fill(_app: Sphinx, page: str, source: list[str]) -> None:
    text = of_root(OF_ROOT[page]) if page in OF_ROOT else source[0]
    source[0] = on_site(filled(text))


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill every page as it is read."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
