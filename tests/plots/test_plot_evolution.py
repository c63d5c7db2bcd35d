"""The evolution's pictures: which epochs, which networks, what changed."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import BarContainer
from PIL import Image

from dcsnas.latency.table import predict_ms
from dcsnas.plots.evolution import animate_evolution, plot_evolution, spaced, stages_of
from dcsnas.plots.records import History, read_history
from dcsnas.search.derive import most_probable, read_probabilities
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from latency_fakes import fake_table, micro_space
from plot_fakes import outside, overlapping, texts_of, write_lines, write_search_run


def choosing_space() -> SearchSpace:
    """Return the micro space with a choice of attention."""
    kinds = {"kind": ["none", "sa", "dcs"], "affinity": "dot", "scale": "cosine", "tau": 1.0}
    return micro_space(attention=kinds)


def write_turning_run(root: Path, space: SearchSpace, *, epochs: int) -> Path:
    """Write a search whose first half ends at every last option and whose end at every first."""
    run = write_search_run(root, space)
    lines = []
    for done in range(epochs + 1):
        place = 0 if done == 0 or 2 * done > epochs else -1
        line: dict = {"epoch": done}
        for decision in space.decisions:
            row = [0.5 / len(decision.options)] * len(decision.options)
            row[place] += 0.5
            line[decision.label] = row
        lines.append(line)
    write_lines(run / "probabilities.jsonl", lines)
    return run


def still_for(records: int, total: int) -> History:
    """Return a history whose probabilities stay for ``records`` records and then move."""
    moved = [max(0, i - records + 1) / total for i in range(total)]
    space = micro_space(rows=[{"op": "block", "expansion": 1, "width": [4, 8], "stride": 2}])
    values = np.array([[0.5 - m / 2, 0.5 + m / 2] for m in moved])
    return History(space, tuple(range(total)), {"b00_width": values})


def test_records_are_evenly_spaced_from_where_the_choices_move():
    assert spaced(still_for(1, 15), 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert spaced(still_for(5, 7), 8) == [4, 5, 6]
    assert spaced(still_for(3, 100), 2) == [2, 99]
    assert spaced(still_for(9, 9), 8) == [8], "nothing moved yet"


def test_stages_are_the_most_probable_networks(tmp_path: Path):
    space = choosing_space()
    run, table = write_turning_run(tmp_path, space, epochs=4), fake_table(space)
    stages = stages_of(run, read_history(run), range(5))
    assert [stage.epoch for stage in stages] == [0, 1, 2, 3, 4]
    for stage, record in zip(stages, read_probabilities(run), strict=True):
        layers = space.architecture(most_probable(space, record)).layers
        assert stage.ms == pytest.approx(predict_ms(table, layers, (16, 8)))
    # at the start and at the end every decision has its first option, between them its last
    assert [stage.changed for stage in stages] == [0, len(space.decisions), 0, 6, 0]
    assert [[c.name for c in s.columns if c.kind == "attention"] for s in stages] == [
        *(["none"], ["DCS"], ["DCS"], ["none"], ["none"]),
    ]


def test_stages_without_a_table_have_no_latency(tmp_path: Path):
    run = write_search_run(tmp_path)
    (run / "table.json").unlink()
    assert {stage.ms for stage in stages_of(run, read_history(run), [0, 4])} == {None}
    titles = [axes.get_title(loc="left") for axes in plot_evolution(run).axes]
    assert "after 4 epochs" in titles
    assert animate_evolution(run, tmp_path / "evolution.gif").exists()


def test_picture_of_a_small_search(tmp_path: Path):
    figure = plot_evolution(write_turning_run(tmp_path, choosing_space(), epochs=4))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left").split(":")[0] for axes in panels] == [
        "after 0 epochs",
        "after 1 epoch",
        "after 2 epochs",
        "after 3 epochs",
        "after 4 epochs",
    ]
    chosen = [
        [bar.get_height() for bar in container]
        for axes in panels
        for container in axes.containers
        if isinstance(container, BarContainer) and container.get_label() == "chosen"
    ]
    smallest, largest = [4, 4, 4, 4, 8], [4, 4, 8, 12, 16]
    assert chosen == [smallest, largest, largest, smallest, smallest]
    written = [text.get_text() for text in texts_of(figure)]
    assert (written.count("none"), written.count("DCS")) == (3, 2)
    assert (written.count("6 changed"), written.count("0 changed")) == (2, 2)
    assert overlapping(figure) == []
    assert outside(figure) == []


@pytest.mark.parametrize("name", ["tiny", "fbnetv2", "fbnetv2_xlarge"])
def test_no_text_lies_on_another(tmp_path: Path, name: str):
    run = write_turning_run(tmp_path, micro_space(), epochs=8)
    space = SearchSpace.load(find_space(name))
    lines = [{"epoch": e} for e in range(9)]
    for decision in space.decisions:
        for line in lines:
            line[decision.label] = np.eye(len(decision.options))[(line["epoch"] - 1) % 2].tolist()
    write_lines(run / "probabilities.jsonl", lines)
    (run / "space.yaml").write_text(find_space(name).read_text())
    (run / "table.json").unlink()
    figure = plot_evolution(run)
    assert sum("changed" in text.get_text() for text in texts_of(figure)) == 8
    assert overlapping(figure) == []
    assert outside(figure) == []


def test_animation_has_a_frame_for_every_stage_that_differs(tmp_path: Path):
    run = write_search_run(tmp_path, epochs=4)
    path = animate_evolution(run, tmp_path / "evolution.gif")
    with Image.open(path) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        times = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            times.append(image.info["duration"])
    assert times == [200] * 4 + [2000]
    assert path.read_bytes() == animate_evolution(run, tmp_path / "again.gif").read_bytes()
