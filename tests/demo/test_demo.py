"""The demo's numbers, its training of rivals on little data, and all of it (slow)."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dcsnas.data.drawn.render import ClassSettings, ReidSettings, render_classes, render_reid
from dcsnas.demo.demo import run_demo
from dcsnas.demo.report import Summary
from dcsnas.demo.rivals import Recipe, Rival, train_one, train_side_by_side
from dcsnas.nn.weights import read_header
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.space import Option
from latency_fakes import fake_table, micro_space

SPACE = micro_space()


def test_summary_has_every_number_and_its_lines_say_them() -> None:
    names = [field.name for field in fields(Summary)]
    # every number another, and recognisable to the digits that are shown
    numbers: dict[str, Any] = {name: 11.0 + index for index, name in enumerate(names)}
    numbers["table_entries"] = 345
    lines = Summary(**numbers).lines()
    text = "\n".join(lines)
    assert "10^11.0 architectures" in text
    assert f"345 operators measured in {numbers['profile_s']:.0f} s" in text
    for name in ("params_m", "macs_g", "predicted_ms", "measured_ms"):
        assert f" {numbers[name]:.1f}" in text, name
    scored = {"derived network, retrained": "", "random": "random_", "histogram": "histogram_"}
    for start, prefix in scored.items():
        (line,) = (line for line in lines if start in line)
        assert line.index("mAP") < line.index(f"{numbers[f'{prefix}map']:.1f} %")
        assert line.index("Rank-1") < line.index(f"{numbers[f'{prefix}rank1']:.1f} %")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Return a recipe in a folder whose people and garments make one batch an epoch."""
    root = tmp_path_factory.mktemp("rivals") / "a: folder, with # signs"
    people = ReidSettings(
        train_identities=16,
        test_identities=3,
        cameras=2,
        images_per_camera=2,
        distractors=2,
        junk=1,
        height=32,
        width=16,
    )
    render_reid(root / "people", people)
    classes = ClassSettings(train_per_class=1, val_per_class=1, cameras=1, height=32, width=16)
    render_classes(root / "classes", classes)
    return Recipe(root, seed=3)


def rival(name: str, choose: Callable[..., dict[str, Option]]) -> Rival:
    architecture = architecture_of(SPACE, choose(SPACE), table=fake_table(SPACE), seed=0)
    return Rival(name, architecture, {"measured_ms": 1.25, "predicted_ms": 1.0})


def epochs_logged(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def test_rival_is_trained_by_the_shipped_recipe_and_only_once(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rival("one", largest_choice)
    metrics = train_one(recipe, one)
    folder = recipe.root / "one"
    assert epochs_logged(folder / "pretrain") == list(range(1, recipe.pretrain.epochs + 1))
    assert epochs_logged(folder / "retrain") == list(range(1, recipe.retrain.epochs + 1))
    header = read_header(folder / "retrain" / "model.safetensors")
    assert header.architecture == one.architecture
    assert header.num_classes == 16
    assert 0 < metrics["map"] <= 100
    assert metrics["latency"] == one.latency

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished rival was trained again")

    for stage in ("train", "evaluate"):
        monkeypatch.setattr(f"dcsnas.demo.rivals.{stage}", again)
    assert train_one(recipe, one) == metrics


@pytest.mark.slow
def test_rivals_side_by_side_come_back_in_order(recipe: Recipe) -> None:
    rivals = [rival("first", largest_choice), rival("second", smallest_choice)]
    heard: list[tuple[int, int]] = []
    results = train_side_by_side(
        recipe, rivals, progress=lambda done, total: heard.append((done, total))
    )
    total = 2 * (recipe.pretrain.epochs + recipe.retrain.epochs)
    assert {wanted for _, wanted in heard} == {total}
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    for result, one in zip(results, rivals, strict=True):
        found = json.loads((recipe.root / one.name / "retrain" / "metrics.json").read_text())
        assert result == found
        header = read_header(recipe.root / one.name / "retrain" / "model.safetensors")
        assert header.architecture == one.architecture


@contextmanager
def silent_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.mark.slow
def test_whole_demo_and_that_it_is_continued(tmp_path: Path) -> None:
    summaries = [
        run_demo(tmp_path, seed=0, say=lambda line: None, bar=silent_bar, live=False)
        for _ in range(2)
    ]
    first, second = (vars(summary) for summary in summaries)
    assert json.loads((tmp_path / "summary.json").read_text()) == second
    again = {"total_s", "measured_ms", "random_measured_ms"}
    assert {k: v for k, v in first.items() if k not in again} == {
        k: v for k, v in second.items() if k not in again
    }
    assert second["total_s"] < 0.5 * first["total_s"]
    assert first["random_predicted_ms"] == pytest.approx(first["predicted_ms"], rel=0.01)
    # trained networks retrieve people better than the colours of their clothes do
    assert first["map"] > first["histogram_map"]
    report = (tmp_path / "report.md").read_text()
    assert all(picture in report for picture in ("architecture", "curves", "probabilities"))
