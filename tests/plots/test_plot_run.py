"""All pictures of a run folder, and what is refused."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.config.files import write_json, write_yaml
from dcsnas.plots.run import plot_run
from dcsnas.plots.style import DPI
from plot_fakes import write_retrain_run, write_search_run
from reid_data import write_cuhk03_folders, write_reid_set


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_every_picture_of_a_search(tmp_path: Path):
    run = write_search_run(tmp_path)
    written = plot_run(run)
    assert names(written) == [
        *("curves.png", "curves.svg", "probabilities.png"),
        *("evolution.png", "evolution.svg", "evolution.gif"),
        *("architecture.png", "architecture.svg"),
    ]
    assert sorted((run / "plots").iterdir()) == sorted(written)
    for path in written:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            continue
        with Image.open(path) as image:
            image.load()
            assert f".{image.format}".lower() == path.suffix
            if path.suffix == ".gif":
                continue
            assert min(image.size) > 3 * DPI
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 20


def test_every_picture_of_a_retrain_run(tmp_path: Path):
    written = plot_run(write_retrain_run(tmp_path))
    assert names(written) == [
        *("curves.png", "curves.svg", "retrieval.png", "retrieval.svg"),
        *("architecture.png", "architecture.svg"),
    ]


def test_ranking_of_an_evaluated_run(tmp_path: Path):
    run = write_retrain_run(tmp_path / "run")
    data = write_reid_set(tmp_path / "people", identities=3)
    ranking = {"data": str(data), "neighbours": [[0, 1, -1]] * 6}
    write_json(run / "neighbours.json", ranking)
    assert "gallery.png" in names(plot_run(run))


def test_a_ranking_is_drawn_from_the_images_that_were_evaluated(tmp_path: Path):
    run = write_retrain_run(tmp_path / "run")
    data = write_cuhk03_folders(tmp_path / "cuhk03")  # 3 labeled identities, 4 detected ones
    ranking = {"data": str(data), "neighbours": [[0, 1, -1]] * 6}
    write_json(run / "neighbours.json", {**ranking, "variant": {"cuhk03": "labeled"}})
    assert "gallery.png" in names(plot_run(run))
    write_json(run / "neighbours.json", ranking)
    with pytest.raises(UserError, match=r"neighbours\.json: does not fit .*; evaluate again"):
        plot_run(run)


def test_a_search_that_has_just_begun_shows_its_probabilities(tmp_path: Path):
    run = write_search_run(tmp_path)
    (run / "architecture.yaml").unlink()
    (run / "metrics.jsonl").write_text('{"epoch": 0, "weights/lo')
    assert names(plot_run(run)) == [
        *("probabilities.png", "evolution.png", "evolution.svg", "evolution.gif")
    ]


def test_a_run_with_nothing_to_draw(tmp_path: Path):
    write_yaml(tmp_path / "config.yaml", {"stage": "pretrain"})
    with pytest.raises(
        UserError, match=r"a pretrain run with nothing to draw yet; .*metrics\.jsonl"
    ):
        plot_run(tmp_path)
    assert not (tmp_path / "plots").exists()


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(UserError, match=r"holds no config\.yaml; give the run folder of a search"):
        plot_run(tmp_path)
    with pytest.raises(UserError, match="gone: no such folder; give the run folder"):
        plot_run(tmp_path / "gone")


@pytest.mark.parametrize("stage", ["experiment", None, ["search"]])
def test_a_stage_without_pictures(tmp_path: Path, stage: object):
    write_yaml(tmp_path / "config.yaml", {"stage": stage})
    with pytest.raises(UserError, match=r"config\.yaml: stage: .* has no pictures; stages that do"):
        plot_run(tmp_path)


def test_plots_need_neither_nni_nor_pyplot():
    code = (
        "import sys, dcsnas.plots.run, dcsnas.plots.gallery, dcsnas.demo.report;"
        "print([m for m in ('nni', 'matplotlib.pyplot', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
