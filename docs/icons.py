"""The icons of NNI's web page as a font, so that it needs no network: Microsoft's, under MIT.

NNI asks Microsoft's servers for them, in a font whose licence does not allow others to pass it on.
The same company's Fluent UI System Icons may be; this draws those that the page uses at the same
characters. ``dcsnas/experiments/nni_patches.cjs`` serves the font in place of the other.

Command: npm pack @fluentui/svg-icons && python docs/icons.py fluentui-svg-icons-*.tgz
It needs fonttools, which matplotlib brings, and writes ``icons.woff`` and ``LICENSE`` into
``dcsnas/experiments/icons/``.
"""

import sys
import tarfile
from pathlib import Path
from typing import Any

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.svgLib.path import SVGPath

OUT = Path(__file__).parents[1] / "dcsnas" / "experiments" / "icons"
ICONS = {
    "Accept": (0xE8FB, "checkmark_20_regular"),
    "Add": (0xE710, "add_20_regular"),
    "BarChartHorizontal": (0xE9EB, "data_bar_horizontal_20_regular"),
    "Blocked2": (0xECE4, "prohibited_20_regular"),
    "BulletedList": (0xE8FD, "text_bullet_list_20_regular"),
    "Calendar": (0xE787, "calendar_ltr_20_regular"),
    "Cancel": (0xE711, "dismiss_20_regular"),
    "CheckMark": (0xE73E, "checkmark_20_filled"),
    "ChevronDown": (0xE70D, "chevron_down_20_regular"),
    "ChevronLeft": (0xE76B, "chevron_left_20_regular"),
    "ChevronLeftMed": (0xE973, "chevron_left_20_regular"),
    "ChevronRight": (0xE76C, "chevron_right_20_regular"),
    "ChevronRightMed": (0xE974, "chevron_right_20_regular"),
    "ChevronUp": (0xE70E, "chevron_up_20_regular"),
    "CircleRing": (0xEA3A, "circle_20_regular"),
    "CircleShapeSolid": (0xF63C, "circle_20_filled"),
    "Clear": (0xE894, "dismiss_20_regular"),
    "Completed": (0xE930, "checkmark_circle_20_regular"),
    "Copy": (0xE8C8, "copy_20_regular"),
    "CustomList": (0xEEBE, "text_bullet_list_square_20_regular"),
    "DisableUpdates": (0xE8D8, "clock_dismiss_20_regular"),
    "Document": (0xE8A5, "document_20_regular"),
    "DoubleChevronDown": (0xEE04, "chevron_double_down_20_regular"),
    "DoubleChevronUp": (0xEDBD, "chevron_double_up_20_regular"),
    "Download": (0xE896, "arrow_download_20_regular"),
    "Equalizer": (0xE9E9, "options_20_regular"),
    "Error": (0xE783, "error_circle_20_regular"),
    "ErrorBadge": (0xEA39, "dismiss_circle_20_regular"),
    "Feedback": (0xED15, "person_feedback_20_regular"),
    "Filter": (0xE71C, "filter_20_regular"),
    "FlowChart": (0xE9D4, "flowchart_20_regular"),
    "GripperBarVertical": (0xE784, "re_order_dots_vertical_20_regular"),
    "GroupedDescending": (0xEE66, "group_list_20_regular"),
    "Hide": (0xED1A, "eye_off_20_regular"),
    "HomeGroup": (0xEC26, "data_scatter_20_regular"),
    "Important": (0xE8C9, "important_20_regular"),
    "Info": (0xE946, "info_20_regular"),
    "LineChart": (0xE9E6, "data_line_20_regular"),
    "M365InvoicingLogo": (0xF7C1, "receipt_20_regular"),
    "Market": (0xEAFC, "arrow_trending_20_regular"),
    "MarketDown": (0xEF42, "arrow_trending_down_20_regular"),
    "Message": (0xE8BD, "chat_20_regular"),
    "More": (0xE712, "more_horizontal_20_regular"),
    "Move": (0xE7C2, "arrow_move_20_regular"),
    "RedEye": (0xE7B3, "eye_20_regular"),
    "Refresh": (0xE72C, "arrow_clockwise_20_regular"),
    "ReminderTime": (0xEBF9, "clock_20_regular"),
    "RevToggleKey": (0xE845, "arrow_download_20_regular"),
    "Running": (0xEADA, "play_circle_20_regular"),
    "Search": (0xE721, "search_20_regular"),
    "SortDown": (0xEE69, "arrow_sort_down_20_regular"),
    "SortUp": (0xEE68, "arrow_sort_up_20_regular"),
    "StackedLineChart": (0xF24E, "data_trending_20_regular"),
    "StatusCircleBlock": (0xF140, "prohibited_20_regular"),
    "StatusCircleCheckmark": (0xF13E, "checkmark_20_regular"),
    "Tag": (0xE8EC, "tag_20_regular"),
    "TestParameter": (0xF3AD, "beaker_20_regular"),
    "Timer": (0xE91E, "timer_20_regular"),
    "Unknown": (0xE9CE, "question_20_regular"),
    "Warning": (0xE7BA, "warning_20_regular"),
}
"""By Fluent UI's name of an icon: its character in Microsoft's font, and whose drawing to take."""
SIDE, UNITS = 20, 2000
"""Of a drawing in its own units, and in the font's."""


def glyph_of(svg: bytes) -> Any:
    """Return the outlines of a drawing; y goes upwards in a font."""
    pen = TTGlyphPen(None)
    scale = UNITS / SIDE
    upright = TransformPen(Cu2QuPen(pen, max_err=1.0), (scale, 0, 0, -scale, 0, UNITS))
    SVGPath.fromstring(svg).draw(upright)
    return pen.glyph()


def font_of(drawings: dict[str, bytes]) -> FontBuilder:
    """Return a font of ``ICONS`` with the drawings of these names."""
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    glyphs |= {name: glyph_of(drawings[drawing]) for name, (_, drawing) in ICONS.items()}
    font = FontBuilder(UNITS, isTTF=True)
    font.setupGlyphOrder(list(glyphs))
    font.setupCharacterMap({character: name for name, (character, _) in ICONS.items()})
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (UNITS, 0)))
    font.setupHorizontalHeader(ascent=UNITS, descent=0)
    font.setupOS2(sTypoAscender=UNITS, sTypoDescender=0, usWinAscent=UNITS, usWinDescent=0)
    font.setupNameTable({"familyName": "Fluent UI System Icons, some", "styleName": "Regular"})
    font.setupPost()
    head: Any = font.font["head"]
    head.created = head.modified = 0  # the same file every time
    return font


def main() -> None:
    """Write the font and its licence from npm's package."""
    with tarfile.open(sys.argv[1]) as package:

        def content(name: str) -> bytes:
            file = package.extractfile(f"package/{name}")
            assert file is not None
            return file.read()

        wanted = {drawing for _, drawing in ICONS.values()}
        drawings = {drawing: content(f"icons/{drawing}.svg") for drawing in wanted}
    font = font_of(drawings).font
    font.flavor = "woff"
    OUT.mkdir(exist_ok=True)
    font.save(OUT / "icons.woff", reorderTables=True)
    print(OUT / "icons.woff")


if __name__ == "__main__":
    main()
