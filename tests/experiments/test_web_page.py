"""NNI's web page in a real browser, while and after a sweep of real searches runs."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcsnas.config.files import read_json
from dcsnas.config.jsonl import read_records
from dcsnas.data.drawn.render import ReidSettings, render_reid
from dcsnas.experiments.experiment import start
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.settings import read_sweep
from dcsnas.spaces.shipped import shipped_folder
from experiment_setup import (
    NNI_LEAVES_OPEN,
    all_ended,
    listeners,
    manager_of,
    stopped_at_the_end,
    wait_until,
)

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
WEIGHTS = [0, 0.25, 0.5, 1]
(TABLE,) = (Path(__file__).parents[2] / "latency_tables").glob("tiny-*-eager-64x32-b1.json")
PATIENCE_MS = 60_000

pytestmark = [
    NNI_LEAVES_OPEN,
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.xdist_group("page"),  # one sweep for all of them
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExperimentFolder]:
    """Run four trials on ``tiny``; the manager stays until the module's tests are done."""
    root = tmp_path_factory.mktemp("page")
    render_reid(root / "people", SETTINGS)
    overrides = [
        f"parameters.lambda.values={WEIGHTS}",
        *("search.epochs=3", "search.architecture.warmup_epochs=1"),
        *("search.batch.identities=4", "concurrency=2", "allow_foreign=true", "measure=false"),
    ]
    config = read_sweep(
        shipped_folder("experiments") / "nni" / "latency_sweep_tiny.yaml",
        data=root / "people",
        table=TABLE,
        overrides=overrides,
    )
    folder = start(config, root / "sweep")
    with stopped_at_the_end(folder):
        yield folder


SETTINGS = ReidSettings(
    train_identities=8,
    test_identities=2,
    cameras=2,
    images_per_camera=3,
    distractors=0,
    junk=0,
)


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """Return the addresses that the page asks for, as they come."""
    return []


@pytest.fixture(scope="module")
def page(sweep: ExperimentFolder, asked: list[str]) -> Iterator[Any]:
    """Yield the web page in Chromium."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        opened.on("request", lambda request: asked.append(request.url))
        yield opened
        browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where screenshots go: the folder in DCSNAS_SCREENSHOTS if that is set."""
    given = os.environ.get("DCSNAS_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def results(folder: ExperimentFolder) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return by trial what its own folder says: parameters and result."""
    found = {}
    for path in (folder.path / "trials").glob("*/result.json"):
        found[path.parent.name] = read_json(path.parent / "parameters.json"), read_json(path)
    return found


def test_page_shows_what_the_trials_ran(sweep: ExperimentFolder, page: Any, pictures: Path) -> None:
    wait_until(sweep, lambda trials: any(trial.intermediate for trial in trials))
    assert {address for address, _ in listeners(manager_of(sweep))} == {"127.0.0.1"}
    wait_until(sweep, all_ended(4))
    assert {address for address, _ in listeners(manager_of(sweep))} == {"127.0.0.1"}
    page.goto(sweep.url)
    page.get_by_text("DONE").first.wait_for()
    page.wait_for_timeout(2000)  # it draws in an animation
    page.screenshot(path=pictures / "overview.png")
    page.goto(f"{sweep.url}/detail")
    page.locator("span.SUCCEEDED").nth(3).wait_for()
    ran = results(sweep)
    assert sorted(parameters["lambda"] for parameters, _ in ran.values()) == WEIGHTS
    for identity, (parameters, result) in ran.items():
        row = page.locator("[role=row]").filter(has_text=identity)
        assert cell(row, "status") == "SUCCEEDED"
        value, kind = cell(row, "latestAccuracy").split()
        assert kind == "(FINAL)"
        assert float(value) == pytest.approx(result["default"], abs=1e-5)
        assert result["ran_lambda"] == parameters["lambda"]
        opener = row.locator("[data-automation-key=_expand] i")
        opener.click()
        shown = page.get_by_text("lambda:").locator("xpath=../..")
        shown.wait_for()
        name, _, written = shown.inner_text().replace("\n", "").partition(":")
        assert {name.strip(): float(written)} == parameters
        opener.click()
        shown.wait_for(state="detached")
    look_at(page, "Intermediate result", pictures / "intermediate.png")
    look_at(page, "Hyper-parameter", pictures / "parameters.png")
    axes = set(page.locator("svg text").all_text_contents())
    assert {"lambda", *next(iter(ran.values()))[1]} <= axes


def test_the_page_needs_no_network_and_shows_its_icons(
    sweep: ExperimentFolder, page: Any, asked: list[str]
) -> None:
    page.goto(f"{sweep.url}/detail")
    page.locator("span.SUCCEEDED").nth(3).wait_for()
    page.evaluate("document.fonts.ready.then(() => true)")
    loaded = "[...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family)"
    assert any("FabricMDL2Icons" in family for family in page.evaluate(loaded))
    assert any("/dcsnas-icons/" in url for url in asked)
    local = (f"{sweep.url}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(local)] == []


def test_intermediate_curves_are_those_of_the_runs(sweep: ExperimentFolder) -> None:
    trials = wait_until(sweep, all_ended(4))
    for trial in trials:
        records = read_records(sweep.trial(trial.id) / "search" / "metrics.jsonl")
        scores = {record["epoch"] - 1: record["validation/map"] for record in records}
        assert {e: values["default"] for e, values in trial.intermediate.items()} == scores
        entropies = {record["epoch"] - 1: record["entropy"] for record in records}
        assert {e: values["entropy"] for e, values in trial.intermediate.items()} == entropies
        assert trial.final == read_json(sweep.trial(trial.id) / "result.json")


def cell(row: Any, key: str) -> str:
    """Return the text of a row's cell."""
    return row.locator(f"[data-automation-key={key}]").inner_text()


def look_at(page: Any, tab: str, picture: Path) -> None:
    """Open a tab of the page and take a screenshot when it is drawn."""
    page.locator("[role=tab]").filter(has_text=tab).click()
    page.wait_for_timeout(2000)  # it draws in an animation
    page.screenshot(path=picture, full_page=True)
