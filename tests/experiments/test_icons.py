"""The font that stands in for Microsoft's on NNI's web page has what the page shows."""

import re
from pathlib import Path

import nni_node
from fontTools.ttLib import TTFont
from icons import ICONS, OUT

SCRIPTS = Path(nni_node.__file__).parent / "static" / "static" / "js"


def test_every_icon_of_the_page_is_in_the_font() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(SCRIPTS.glob("*.js")))
    known = re.findall(r'\b(\w+):"\\u([0-9a-f]{4})"', text)
    characters = {name.lower(): int(code, 16) for name, code in known}  # as Fluent UI finds them
    names = {name.lower() for name in re.findall(r'\b(?:iconName|itemIcon|icon):"(\w+)"', text)}
    shown = {characters[name] for name in names if name in characters}
    assert len(shown) > 40
    drawn = TTFont(OUT / "icons.woff").getBestCmap() or {}
    assert shown <= set(drawn)
    for name, (character, _) in ICONS.items():
        assert drawn[character] == name
        assert characters[name.lower()] == character


def test_no_drawing_is_empty() -> None:
    glyphs = TTFont(OUT / "icons.woff")["glyf"]
    for name in ICONS:
        outline = glyphs[name]
        assert outline.numberOfContours > 0, name
        assert 0 <= outline.xMin < outline.xMax <= 2000, name
        assert 0 <= outline.yMin < outline.yMax <= 2000, name


def test_the_licence_is_beside_the_font() -> None:
    said = (OUT / "LICENSE").read_text()
    assert "MIT License" in said
    assert "Microsoft" in said
