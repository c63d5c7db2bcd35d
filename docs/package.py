"""The picture of the package, drawn from its imports: docs/images/package.svg.

Command: .venv/bin/python docs/package.py (with --check it only says whether the file is current)

A row is a package of dcsnas with its first docstring line, the lowest at the top, and a curve joins
a package to one that it imports. Where it could also be reached through others there is no curve.
The files' counts are left out, so that the picture changes when the structure does.
"""

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "package.svg"
ROW, LEFT, WIDTH = 30, 150, 880


def packages() -> dict[str, str]:
    """Return the first docstring line of every package by name."""
    folders = sorted(p.parent for p in (ROOT / "dcsnas").glob("*/__init__.py"))
    found = {}
    for folder in folders:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        found[folder.name] = (
            (ast.get_docstring(ast.parse(text)) or "").splitlines()[0].replace("``", "")
        )
    return found


def imports(names: set[str]) -> dict[str, set[str]]:
    """Return the packages that each package imports, wherever in a file it does."""
    found: dict[str, set[str]] = {name: set() for name in names}
    for name in names:
        for file in (ROOT / "dcsnas" / name).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                parts = (module or "").split(".")
                if parts[0] == "dcsnas" and len(parts) > 1 and parts[1] in names - {name}:
                    found[name].add(parts[1])
    return found


def reach(graph: dict[str, set[str]], name: str) -> set[str]:
    """Return everything that ``name`` imports, directly or through others."""
    below = graph[name]
    return below.union(*(reach(graph, other) for other in below)) if below else set()


def direct(graph: dict[str, set[str]]) -> dict[str, list[str]]:
    """Return the imports of each package that no other import of its implies."""
    return {
        name: sorted(one for one in below if not any(one in reach(graph, o) for o in below - {one}))
        for name, below in graph.items()
    }


def svg() -> str:
    """Return the picture."""
    lines = packages()
    graph = imports(set(lines))
    order = sorted(graph, key=lambda name: (len(reach(graph, name)), name))
    y = {name: 24 + ROW * row for row, name in enumerate(order)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {ROW * len(order) + 20}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{ROW * len(order) + 20}" fill="white"/>',
    ]
    for name, below in sorted(direct(graph).items()):
        for other in below:
            bend = LEFT - 14 - 4 * abs(y[name] - y[other]) ** 0.62
            parts.append(
                f'<path d="M{LEFT - 6} {y[name]} C{bend:.0f} {y[name]} {bend:.0f} {y[other]} '
                f'{LEFT - 6} {y[other]}" fill="none" stroke="#8aa" stroke-width="1.3"/>'
            )
    for name in order:
        parts.append(
            f'<circle cx="{LEFT - 6}" cy="{y[name]}" r="3.5" fill="#0072b2"/>'
            f'<text x="{LEFT + 6}" y="{y[name] + 4}" font-weight="bold" fill="#222">{name}</text>'
            f'<text x="{LEFT + 112}" y="{y[name] + 4}" fill="#555">{escape(lines[name])}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture, or check it."""
    if "--check" in sys.argv[1:]:
        current = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == svg()
        sys.exit(0 if current else f"{PICTURE} is not current; run docs/package.py")
    PICTURE.write_text(svg(), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
