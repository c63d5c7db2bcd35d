"""The demo's images and its first picture; what it says at its end."""

from pathlib import Path

from typer.main import get_command

from dcsnas.cli.demo import NEXT
from dcsnas.cli.main import app
from dcsnas.config.files import read_json
from dcsnas.data.drawn import render
from dcsnas.demo.drawing import draw_both, draw_sheet

SMALL = {"height": 32, "width": 16, "cameras": 2}


PEOPLE = render.ReidSettings(
    train_identities=10, test_identities=2, distractors=2, junk=1, seed=3, **SMALL
)
GARMENTS = render.ClassSettings(train_per_class=1, val_per_class=1, seed=3, **SMALL)


def test_both_sets_are_drawn_at_once_as_one_by_one(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    draw_both(tmp_path / "a", PEOPLE, GARMENTS, lambda done, total: heard.append((done, total)))
    assert heard[-1] == (75 + 36, 75 + 36)
    render.render_reid(tmp_path / "b" / "people", PEOPLE)
    render.render_classes(tmp_path / "b" / "classes", GARMENTS)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 75 + 36 + 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    heard.clear()
    draw_both(tmp_path / "a", PEOPLE, GARMENTS, lambda done, total: heard.append((done, total)))
    assert not heard, "what is there is not drawn again"
    sheet = draw_sheet(tmp_path / "a")
    assert sheet == tmp_path / "a" / "people.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert read_json(tmp_path / "a" / "people" / "dataset.json")["settings"]["seed"] == 3


def test_what_to_do_next_are_commands_that_exist() -> None:
    assert len(NEXT) == 3
    for line in NEXT:
        _, *words = line.split()
        command: object = get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {o for parameter in command.params for o in parameter.opts}  # type: ignore[attr-defined]
        assert {word for word in words if word.startswith("--")} <= options
