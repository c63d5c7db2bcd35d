"""The page in a real browser: no request, no wider than the screen, read by keys and pointer."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcsnas.reports.page import write_page
from report_setup import write_experiment, write_runs

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
AXE = os.environ.get("DCSNAS_AXE")
"""The file axe.min.js of the npm package axe-core, which is no dependency."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    runs = write_runs(root)
    (runs[2] / "config.yaml").write_bytes((runs[1] / "config.yaml").read_bytes())  # one recipe
    write_page([*runs, write_experiment(root)], root / "page.html")
    return root / "page.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def faults() -> list[str]:
    """Return what a page asks for elsewhere, and what its script reports, as it happens."""
    return []


@pytest.fixture(params=[(w, s) for w in WIDTHS for s in SCHEMES], ids=str)
def opened(
    request: pytest.FixtureRequest, browser: Any, page_file: Path, faults: list[str]
) -> Iterator[Any]:
    width, scheme = request.param
    # axe is put into the page, which its policy would forbid
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bool(AXE)
    )
    page = context.new_page()
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or faults.append(r.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and faults.append(said.text))
    page.goto(page_file.as_uri())
    if folder := os.environ.get("DCSNAS_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = f"report-{scheme}-{width}.png"
        page.screenshot(path=Path(folder) / name, full_page=True)
    yield page
    context.close()


def test_page_fits_and_asks_nobody(opened: Any, faults: list[str]) -> None:
    wide = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    assert opened.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert faults == []


def test_a_chart_is_read_with_keys_and_with_the_pointer(opened: Any, faults: list[str]) -> None:
    chart = opened.locator(".chart").first
    slider, text = chart.locator("input"), chart.locator(".said")
    slider.focus()
    opened.keyboard.press("Home")
    opened.keyboard.press("ArrowRight")
    assert text.inner_text().startswith("epoch 2: ")
    assert slider.get_attribute("aria-valuetext") == "epoch 2"
    chart.locator("svg").scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    opened.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + 0.5 * box["height"])
    assert text.inner_text().startswith("epoch 1: ")
    assert faults == []


def test_networks_are_named_to_whoever_goes_to_them(opened: Any) -> None:
    scatter = opened.locator(".scatter").first
    first, second = scatter.locator(".point").nth(0), scatter.locator(".point").nth(1)
    first.focus()
    assert scatter.locator(".said").inner_text() == first.get_attribute("aria-label")
    opened.keyboard.press("Tab")
    assert scatter.locator(".said").inner_text() == second.get_attribute("aria-label")


def test_colours_follow_the_reader(browser: Any, page_file: Path) -> None:
    shades = []
    for scheme in SCHEMES:
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(page_file.as_uri())
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert shades == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


@pytest.mark.skipif(not AXE, reason="needs axe-core's axe.min.js in DCSNAS_AXE (npm pack axe-core)")
def test_axe_finds_nothing_serious(opened: Any) -> None:
    opened.evaluate(Path(str(AXE)).read_text())
    for details in opened.locator("details").all():
        details.evaluate("element => { element.open = true; }")
    found = opened.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert len(found["passes"]) > 20
    assert not [(v["id"], [node["html"] for node in v["nodes"]][:3]) for v in serious]
