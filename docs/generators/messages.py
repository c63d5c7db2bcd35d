"""What dcsnas says when something is wrong, collected from its code, for ``docs/messages.md``.

A message is the text of an exception that ends as ``error: ...`` on the terminal, of a warning, of
what is printed to standard error, or of a finding of ``dcsnas doctor`` and ``dcsnas data check``.
What is filled in has its name here.
"""

import ast
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dcsnas"
ERRORS = {"UserError", "ValueError"}
"""Classes whose texts reach the user; a model's ValueError is shown with its file and key."""
OTHERS = {"warnings.warn", "typer.BadParameter", "sys.exit", "SystemExit", "PydanticCustomError",
          "_say"}  # fmt: skip
"""What else is called with a text for the user."""
MARK = re.compile(r"^<!-- made: messages (.*?) -->$", re.M)
"""Of a section of the page, the modules whose messages are listed there."""


@dataclass(frozen=True, order=True)
class Message:
    """A message: the module that it comes from, and its parts, of which the odd are filled in."""

    module: str
    parts: tuple[str, ...]

    @property
    def fixed(self) -> str:
        """Return the text that is always the same."""
        return " ".join(self.parts[::2])

    @property
    def anchor(self) -> str:
        """Return the name of its place on the page, which lasts as long as its words do."""
        words = re.findall(r"[a-z0-9]+", self.fixed.lower())
        return "-".join([*words[:6], sha256(self.fixed.encode()).hexdigest()[:4]])

    def html(self) -> str:
        """Return the message as a list's item."""
        text = "".join(
            f"<var>{html.escape(part)}</var>" if index % 2 else html.escape(part)
            for index, part in enumerate(self.parts)
        )
        return f'<li id="{self.anchor}"><samp>{text}</samp></li>'


@dataclass(frozen=True)
class Call:
    """A place where something is said: the text is None where it is made elsewhere."""

    module: str
    line: int
    message: Message | None


@cache
def calls() -> tuple[Call, ...]:
    """Return every place of the package where a user is told something."""
    trees = {
        _module(file): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(PACKAGE.rglob("*.py"))
    }
    spoken = _error_classes(trees) | OTHERS
    return tuple(
        call for name, tree in trees.items() for call in _Module(name, tree, spoken).calls()
    )


def collected() -> list[Message]:
    """Return all messages, each once a module."""
    return sorted({call.message for call in calls() if call.message})


def _module(file: Path) -> str:
    dotted = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


def _error_classes(trees: dict[str, ast.Module]) -> set[str]:
    """Return the names of the classes that are one of ``ERRORS``, or made of one."""
    bases = {
        node.name: {ast.unparse(base) for base in node.bases}
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = set(ERRORS)
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


class _Module:
    """A module whose calls are looked through: its texts by name, and its functions."""

    def __init__(self, name: str, tree: ast.Module, spoken: set[str]) -> None:
        self.name, self.tree, self.spoken = name, tree, spoken
        self.constants = {n: one for n, one in _assigned(tree).items() if n.strip("_").isupper()}
        self.functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]

    def calls(self) -> Iterator[Call]:
        """Yield the places where a user is told something."""
        for function in [self.tree, *self.functions]:
            texts = self.constants | _assigned(function)
            for node in _own(function):
                for said in self._said(node):
                    for text in self._returned(said) or [_parts(said, texts)]:
                        yield self._call(said.lineno, _joined(text))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Tuple) and _is_fault(node):
                title, advice = (_parts(one, {}) for one in node.elts[1:])
                yield self._call(node.lineno, _joined([*title, (False, "; "), *advice]))

    def _said(self, node: ast.AST) -> list[ast.expr]:
        """Return the expressions of the text that a call tells the user, none of another node."""
        if not isinstance(node, ast.Call) or not node.args:
            return []
        name = ast.unparse(node.func)
        if name == "PydanticCustomError":
            return node.args[1:2]
        to_errors = any(ast.unparse(word) == "file=sys.stderr" for word in node.keywords)
        if name in self.spoken or (name == "print" and to_errors):
            return node.args[:1]
        if name == "Finding" and len(node.args) == 4:  # of dcsnas doctor
            text = ast.BinOp(node.args[2], ast.Add(), _SEMICOLON)
            return [ast.BinOp(text, ast.Add(), node.args[3], lineno=node.lineno)]
        begins = _parts(node.args[0], {})[0]
        return node.args[:1] if begins[1].startswith("warning: ") else []

    def _returned(self, said: ast.expr) -> list[list[tuple[bool, str]]]:
        """Return the texts of a function of this module that ``said`` calls."""
        if not isinstance(said, ast.Call):
            return []
        name = ast.unparse(said.func).removeprefix("self.")
        return [
            _parts(node.value, self.constants | _assigned(function))
            for function in self.functions
            if function.name == name
            for node in _own(function)
            if isinstance(node, ast.Return) and node.value
        ]

    def _call(self, line: int, parts: list[str]) -> Call:
        told = any(len(re.findall(r"[a-z]{2,}", part)) > 1 for part in parts[::2])
        return Call(self.name, line, Message(self.name, tuple(parts)) if told else None)


_SEMICOLON = ast.Constant("; ")


def _is_fault(node: ast.Tuple) -> bool:
    """Return whether a tuple is a fault of a data set: its level, its title and what to do."""
    return len(node.elts) == 3 and ast.unparse(node.elts[0]).startswith("Level.")


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """Yield what lies in a function, but not in those within it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef):
            yield node
            yield from _own(node)


def _assigned(function: ast.AST) -> dict[str, ast.expr]:
    """Return the expressions that names stand for in a function, the last of each."""
    return {
        target.id: node.value
        for node in _own(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _parts(node: ast.expr, texts: dict[str, ast.expr]) -> list[tuple[bool, str]]:
    """Return a text's parts: whether each is filled in, and what it says or is called."""
    match node:
        case ast.Constant(value=str(text)):
            return [(False, text)]
        case ast.JoinedStr(values=values):
            return [part for value in values for part in _parts(value, texts)]
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=right):
            values = right.elts if isinstance(right, ast.Tuple) else [right]
            fixed = [(False, part) for part in re.split(r"%[\d.]*[sdgfr]", text)]
            named = [(True, _called(value)) for value in values]
            return [one for pair in zip_longest(fixed, named) for one in pair if one]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _parts(left, texts) + _parts(right, texts)
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.List(elts=lines)]):
            return [part for line in lines for part in [*_parts(line, texts), (False, " ")]]
        case ast.FormattedValue(value=value) | ast.Starred(value=value):
            inner = {name: one for name, one in texts.items() if _is_text(one)}
            return _parts(value, inner)
        case ast.Name(id=name) if name in texts:
            return _parts(texts[name], {})
    return [(True, _called(node))]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _called(node: ast.expr) -> str:
    """Return a short name for what is filled in."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ")
        case ast.Call(args=[first, *_]):
            return _called(first)
        case ast.Call(func=ast.Attribute(value=value)) | ast.Subscript(value=value):
            return _called(value)
        case ast.BinOp(left=left) if not isinstance(left, ast.Constant):
            return _called(left)
    return "..."


def _joined(parts: list[tuple[bool, str]]) -> list[str]:
    """Return parts in turns, fixed first; neighbours of one sort become one."""
    found = [""]
    for filled, text in parts:
        if filled != (len(found) % 2 == 0):
            found.append("")
        found[-1] = text if filled else re.sub(r"\s+", " ", found[-1] + text)
    return found


def modules_of(mark: str) -> tuple[str, ...]:
    """Return the modules of a mark, without ``dcsnas.`` before each."""
    return tuple(f"dcsnas.{name}" for name in mark.split())


def belongs(module: str, to: str) -> bool:
    """Return whether ``module`` is ``to`` or lies in it."""
    return f"{module}.".startswith(f"{to}.")


def page(mark: str) -> str:
    """Return the list of the messages of the modules that a mark names."""
    wanted = modules_of(mark)
    found = {m.anchor: m for m in collected() if any(belongs(m.module, to) for to in wanted)}
    items = sorted(found.values(), key=lambda message: message.fixed.lower())
    return "\n".join(['<ul class="messages">', *(item.html() for item in items), "</ul>"])
