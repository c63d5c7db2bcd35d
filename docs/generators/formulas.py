"""Formulas as MathML, which browsers draw themselves: no script, no font, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def spaced(formula: str) -> str:
    """Return a formula with the space around a function's name that TeX sets by itself."""
    formula = re.sub(r"(?<=[)\w}])\s*\\log\b", r" \\, \\log", formula)
    return re.sub(r"\\(log|exp)\s+(?![\s(])", r"\\\1\\, ", formula)


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(convert(spaced(node.astext())))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula of its own line; a wide one is scrolled."""
    formula = convert(spaced(node.astext()), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name that ``html_math_renderer`` takes."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
