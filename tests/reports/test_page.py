"""The page on several runs: whole, without a request to anywhere, nothing in it comes alive."""

import re
from pathlib import Path

import pytest

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from dcsnas.latency.table import load_table
from dcsnas.plots.columns import columns_of
from dcsnas.reports.page import labels_of, render, write_page
from dcsnas.spaces.architecture import load_architecture
from report_setup import HOSTILE, Page, write_experiment, write_runs

OUTSIDE = re.compile(r"https?:|@import|url\(", re.I)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return write_runs(tmp_path)


def test_page_is_whole_and_asks_nobody(runs: list[Path]) -> None:
    html = render(runs, title="three runs")
    page = Page(html)
    assert page.faults == []
    assert not OUTSIDE.findall(html)
    for tag, attributes in page.elements:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:")), (tag, attributes[name][:60])
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert [m["content"] for m in page.all("meta") if m.get("name") == "viewport"]
    assert page.all("html") == [{"lang": "en"}]


def test_every_link_within_the_page_leads_somewhere(runs: list[Path]) -> None:
    page = Page(render(runs, title="three runs"))
    identities = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identities) == len(set(identities))
    targets = {a["href"].removeprefix("#") for a in page.all("a")}
    assert {"overview", "curves", "networks", "galleries", "latency"} <= targets <= set(identities)
    named = {a["aria-labelledby"] for a in page.all("section")}
    assert named <= set(identities)


def test_every_image_says_what_is_on_it(runs: list[Path]) -> None:
    page = Page(render(runs, title="three runs"))
    images = page.all("img")
    assert len(images) == 2 * 8 * (1 + 3)  # of both trainings, every query with its neighbours
    assert all(image["alt"] and int(image["width"]) and int(image["height"]) for image in images)
    said = [image["alt"] for image in images]
    assert sum(alt.startswith("query of identity ") for alt in said) == 16
    right = [alt for alt in said if alt.startswith("rank 1: same identity")]
    assert len(right) == 2 * 2  # position 0 of the gallery is of an identity of two queries


def test_every_run_is_there_with_its_numbers(runs: list[Path]) -> None:
    page = Page(render(runs, title="three runs"))
    for run in runs:
        assert run.name in page.text
        assert f"CPU of {run.name}" in page.text
    assert "mAP 48.2 %" in page.text
    assert "mAP 51.5 %" in page.text
    assert "4.83 ms, measured" in page.text
    # what differs between the trainings is one key, and the rest is in the list of all
    differing = page.text.partition("What differs between retrain runs")[2].partition("All ")[0]
    assert differing.split()[-3:] == ["loss.eta", "0.1", "0.5"]
    assert "quiet: speed changed by 1 %, 2 % of the samples interrupted" in page.text


def test_layers_have_the_latencies_of_the_table(runs: list[Path]) -> None:
    page = Page(render(runs[:1], title="a search"))
    architecture = load_architecture(runs[0] / "architecture.yaml")
    columns = columns_of(architecture, table=load_table(runs[0] / "table.json"))
    for column in columns:
        if column.runs and column.percent:
            assert f"{column.percent:.1f} %" in page.text


def test_a_training_takes_the_table_of_a_search_beside_it(runs: list[Path]) -> None:
    alone, beside = (Page(render(some, title="t")).text for some in ([runs[1]], runs))
    assert "the table that predicted this network is not among the runs" in alone
    assert "the table that predicted this network is not among the runs" not in beside


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    names = [HOSTILE.replace("/", "_"), "retrain-0002-{% raw %}"]
    for number, name in enumerate(names):
        runs = write_runs(tmp_path / str(number), name=name)
        write_json(
            runs[2] / "environment.json", {"dcsnas": "0.2.0", "device": "<script>x</script>"}
        )
        page = Page(render(runs, title="<title>"))
        assert page.faults == []
        assert name in page.text
        assert "<script>x</script>" in page.text
        assert len(page.all("script")) == 1
        assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]


def test_an_experiment_has_its_front(tmp_path: Path) -> None:
    page = Page(render([write_experiment(tmp_path)], title="sweep"))
    assert page.faults == []
    assert "sweep , an experiment: 2 succeeded, 1 failed." in page.text.replace("  ", " ")
    points = [a["aria-label"] for a in page.all("g") if "point" in a.get("class", "")]
    assert points == [
        "1: weight 0.5 [fast], 1.5 ms, 40.0 %, on the front",
        "2: weight 0.0 [big], 4 ms, 60.0 %, on the front",
    ]


def test_runs_of_one_recipe_have_a_front(runs: list[Path]) -> None:
    assert "pareto" not in {a.get("id") for _, a in Page(render(runs, title="t")).elements}
    (runs[2] / "config.yaml").write_bytes((runs[1] / "config.yaml").read_bytes())
    page = Page(render(runs, title="t"))
    points = [a["aria-label"] for a in page.all("g") if "point" in a.get("class", "")]
    assert points == [
        "1: retrain-0000-micro, 4.83 ms, 48.2 %, on the front",
        "2: retrain-0001-other, 5.15 ms, 51.5 %, on the front",
    ]


def test_an_experiment_without_a_report_says_how_to_make_one(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path)
    (folder / "report" / "trials.csv").unlink()
    with pytest.raises(UserError, match=r"has no report yet; make it: dcsnas experiment report"):
        render([folder], title="t")


def test_a_data_set_that_has_moved_leaves_the_rest(runs: list[Path]) -> None:
    moved = {**read_json(runs[1] / "neighbours.json"), "data": "/nowhere/at/all"}
    write_json(runs[1] / "neighbours.json", moved)
    page = Page(render(runs, title="t"))
    assert "/nowhere/at/all" in page.text
    assert len(page.all("img")) == 8 * (1 + 3)


def test_positions_beyond_the_gallery_are_no_gallery(runs: list[Path]) -> None:
    broken = {**read_json(runs[1] / "neighbours.json"), "neighbours": [[999]] * 8}
    write_json(runs[1] / "neighbours.json", broken)
    assert "does not fit" in Page(render(runs, title="t")).text


def test_nothing_is_replaced_or_half_written(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"exists already; give another --out, or --force"):
        write_page(runs, out)
    (runs[0] / "metrics.jsonl").write_text('{"epoch": 1}\nbroken\n{"epoch": 2}\n')
    with pytest.raises(UserError, match="line 2: not valid JSON"):
        write_page(runs, out, force=True)
    assert out.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["page.html"]


def test_a_run_that_has_just_begun_has_a_page(runs: list[Path]) -> None:
    for name in ("metrics.jsonl", "probabilities.jsonl", "result.json", "architecture.yaml"):
        (runs[0] / name).unlink()
    assert "0 of 4" in Page(render(runs[:1], title="t")).text


def test_what_identifies_a_folder_is_its_shortest_own_end(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a/retrain", "b/retrain", "search")]
    assert list(labels_of(folders).values()) == ["a/retrain", "b/retrain", "search"]
