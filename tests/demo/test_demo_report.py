"""The demo's report: every number with its unit, links that resolve."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json
from dcsnas.demo.report import Summary, write_report
from plot_fakes import write_search_run

SUMMARY = Summary(
    space_log10=9.14,
    table_entries=1234,
    profile_s=20.4,
    predicted_ms=0.5,
    measured_ms=0.6,
    params_m=0.1294,
    macs_g=0.00406,
    map=63.04,
    rank1=81.0,
    random_map=64.5,
    random_rank1=79.0,
    random_predicted_ms=0.5,
    random_measured_ms=0.62,
    histogram_map=0.8,
    histogram_rank1=0.3,
    total_s=301.7,
    table_verdict="busy (corrected): speed changed by 9 %",
    measured_verdict="quiet: speed changed by 1 %",
)


@dataclass(frozen=True)
class Paths:
    report: Path
    table: Path
    environment: Path
    pictures: list[Path]

    def write(self) -> str:
        write_report(
            self.report,
            SUMMARY,
            table=self.table,
            environment=self.environment,
            pictures=self.pictures,
        )
        return self.report.read_text()


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    run = write_search_run(tmp_path)
    environment = {"platform": "Linux", "processor_count": 2, "python": "3.11.7"}
    write_json(run / "environment.json", {**environment, "dcsnas": "0.1.0", "commit": "c" * 40})
    pictures = [run / "plots" / name for name in ("curves.png", "curves.svg", "my net.png")]
    for picture in pictures:
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(b"")
    report = tmp_path / "out" / "report.md"
    return Paths(report, run / "table.json", run / "environment.json", pictures)


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_number_has_its_unit(paths: Paths):
    text = paths.write()
    table = rows(text)
    assert ["parameters, without classifier", "129", "k"] in table
    assert ["multiply-accumulates for one image", "4.06", "M"] in table
    assert ["latency, predicted from the table", "0.500", "ms"] in table
    assert ["latency, measured on the whole network", "0.600", "ms"] in table
    assert ["measured against predicted", "+20.0", "%"] in table
    assert ["derived network", "63.0", "81.0", "0.500", "0.600"] in table
    assert ["random network", "64.5", "79.0", "0.500", "0.620"] in table
    assert ["colour histogram", "0.8", "0.3", "-", "-"] in table
    assert ["time of the demo's last start", "302", "s"] in table
    assert "10^9.1 networks" in text
    assert "1,234 operators" in text
    assert "the derived one is 1.5 points of mAP worse" in text


def test_conditions_come_from_the_table_and_the_environment(paths: Paths):
    table = rows(paths.write())
    assert ["device", "fake (cpu)"] in table
    assert ["input", "batch of 1, images of 16x8 pixels (height x width)"] in table
    assert ["time of an operator", "relative to a reference, 4 calm samples"] in table
    assert ["latency table", SUMMARY.table_verdict] in table
    assert ["system", "Linux, 2 cores"] in table
    assert ["dcsnas", "0.1.0, commit cccccccccccc"] in table


def test_the_last_lines_say_what_the_latencies_are_worth():
    *_, verdict, total = SUMMARY.lines()
    assert verdict.startswith(
        "latency table: busy (corrected): speed changed by 9 %; networks: quiet"
    )
    error = 100 * (SUMMARY.measured_ms / SUMMARY.predicted_ms - 1)
    assert f"measured against predicted {error:+.1f} %" in verdict
    assert total == "total: 302 s"


def test_pictures_are_relative_links_that_resolve(paths: Paths):
    text = paths.write()
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    run = "../search-0000-micro/plots"
    assert links == [f"{run}/curves.png", f"{run}/my%20net.png"]
    assert (paths.report.parent / links[0]).resolve() == paths.pictures[0].resolve()
    assert "### curves of ../search-0000-micro" in text


def test_a_missing_picture_is_named(paths: Paths):
    paths.pictures[0].unlink()
    with pytest.raises(UserError, match=r"no such picture: .*curves\.png; plot the runs first"):
        paths.write()
