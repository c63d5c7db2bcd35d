"""Rendered data sets: bytes, layout, target folder; and the people in them."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dcsnas.config.errors import UserError
from dcsnas.data.drawn.appearance import Appearance
from dcsnas.data.drawn.figure import VIEWS, draw_person
from dcsnas.data.drawn.paint import Brush, cloth
from dcsnas.data.drawn.render import (
    CLASSES,
    LOOK_ALIKES,
    ClassSettings,
    ReidSettings,
    person,
    render_classes,
    render_reid,
)
from dcsnas.data.image_folder import read_image_folder
from dcsnas.data.reid import read_reid

SMALL = ReidSettings(
    train_identities=5,
    test_identities=4,
    cameras=3,
    images_per_camera=2,
    distractors=6,
    junk=4,
    seed=7,
)
GREY = (150, 150, 150)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def pictures(root: Path) -> dict[str, bytes]:
    return {Path(name).name: data for name, data in contents(root).items() if name.endswith(".jpg")}


@pytest.fixture(scope="module")
def reid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reid") / "people"
    render_reid(root, SMALL)
    return root


def drawn(look: Appearance, view: str, *, phase: float = 0.7) -> np.ndarray:
    image = Image.new("RGB", (100, 200), GREY)
    draw_person(image, look, view=view, phase=phase, foot=(49.5, 190), unit=180)
    return np.asarray(image)


def colour_shares(picture: np.ndarray) -> np.ndarray:
    painted = picture[(picture != GREY).any(axis=2)]
    codes = (painted // 32).astype(int) @ (64, 8, 1)
    return np.bincount(codes, minlength=512) / len(painted)


# --- the Re-ID set -----------------------------------------------------------------------------


def test_same_settings_give_the_same_bytes_and_another_seed_does_not(
    reid: Path, tmp_path: Path
) -> None:
    render_reid(tmp_path / "again", SMALL)
    render_reid(tmp_path / "other", replace(SMALL, seed=8))
    assert contents(tmp_path / "again") == contents(reid)
    first, other = pictures(reid), pictures(tmp_path / "other")
    assert all(first[name] != other[name] for name in first.keys() & other.keys())


def test_a_picture_does_not_depend_on_what_else_is_rendered(reid: Path, tmp_path: Path) -> None:
    render_reid(tmp_path / "more", replace(SMALL, train_identities=3, cameras=4, distractors=1))
    few, more = pictures(reid), pictures(tmp_path / "more")
    shared = {name for name in few.keys() & more.keys() if name[:4] in ("0001", "0002", "0003")}
    assert len(shared) == 3 * 3 * 2
    assert all(few[name] == more[name] for name in shared)


def test_folders_names_and_counts(reid: Path) -> None:
    found = {folder.name: sorted(p.name for p in folder.iterdir()) for folder in reid.glob("*_*")}
    found["query"] = sorted(path.name for path in (reid / "query").iterdir())
    assert {folder: len(names) for folder, names in found.items()} == {
        "bounding_box_train": 5 * 3 * 2,
        "query": 4 * 3,
        "bounding_box_test": 4 * 3 + 6 + 4,
    }
    for names in found.values():
        for name in names:
            assert re.fullmatch(r"(\d{4}|-1)_c[123]s1_\d{6}_0[01]\.jpg", name)
    gallery = found["bounding_box_test"]
    assert sum(name.startswith("0000_") for name in gallery) == 6
    assert sum(name.startswith("-1_") for name in gallery) == 4
    labelled = found["bounding_box_train"] + found["query"]
    assert not any(name.startswith(("0000_", "-1_")) for name in labelled)


def test_pictures_are_rgb_of_the_asked_size(tmp_path: Path) -> None:
    render_reid(tmp_path / "set", replace(SMALL, height=48, width=20, train_identities=2))
    for path in (tmp_path / "set").rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (20, 48))
            assert np.asarray(image).std() > 5


def test_training_and_test_identities_are_disjoint_and_every_query_has_a_match(reid: Path) -> None:
    data = read_reid(reid)
    assert data.train_identities == (1, 2, 3, 4, 5)
    assert {sample.identity for sample in data.query} == {6, 7, 8, 9}
    assert {sample.identity for sample in data.gallery} == {6, 7, 8, 9, 0, -1}
    for query in data.query:
        cameras = {s.camera for s in data.gallery if s.identity == query.identity}
        assert cameras == {1, 2, 3}
    assert len({(query.identity, query.camera) for query in data.query}) == len(data.query)


def test_dataset_json_states_settings_and_counts(reid: Path) -> None:
    stated = json.loads((reid / "dataset.json").read_text())
    assert stated["settings"] == asdict(SMALL)
    assert stated["images"] == {
        folder: len(list((reid / folder).iterdir()))
        for folder in ("bounding_box_train", "query", "bounding_box_test")
    }


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    settings = replace(SMALL, train_identities=2, test_identities=1)
    render_reid(tmp_path / "set", settings, progress=lambda *call: calls.append(call))
    total = 3 * 3 * 2 + 6 + 4
    assert calls == [(done, total) for done in range(1, total + 1)]


# --- the target folder -------------------------------------------------------------------------


def test_a_folder_with_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("keep")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"set: exists and is not an empty folder.*another path"):
        render_reid(tmp_path / "set", SMALL)
    with pytest.raises(UserError, match=r"mine\.txt: exists"):
        render_classes(tmp_path / "set" / "mine.txt", ClassSettings())
    assert contents(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    render_reid(tmp_path / "set", replace(SMALL, train_identities=2, test_identities=1))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert len(pictures(tmp_path / "set")) == 28


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt, KeyboardInterrupt), (OSError, UserError)]
)
def test_interrupted_rendering_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException], raised: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise error

    with pytest.raises(raised):
        render_reid(tmp_path / "set", SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_is_there_whole_is_not_refused(tmp_path: Path) -> None:
    """Random faults: a command that was killed after its last file was refused by its like."""
    settings = replace(SMALL, train_identities=2, test_identities=1)
    assert render_reid(tmp_path / "set", settings)
    before = contents(tmp_path)
    assert not render_reid(tmp_path / "set", settings)
    assert contents(tmp_path) == before
    with pytest.raises(UserError, match="is not an empty folder"):
        render_reid(tmp_path / "set", replace(settings, seed=8))
    next((tmp_path / "set" / "query").iterdir()).unlink()
    with pytest.raises(UserError, match="is not an empty folder"):
        render_reid(tmp_path / "set", settings)


def test_what_a_killed_rendering_left_is_removed(tmp_path: Path) -> None:
    """Random faults: the folder of a killed process, with half of its images, stayed for ever."""
    left, other = tmp_path / "set.4242.partial", tmp_path / "settled.4242.partial"
    for folder in (left, other):
        (folder / "query").mkdir(parents=True)
    render_reid(tmp_path / "set", replace(SMALL, train_identities=2, test_identities=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", other.name]


def test_a_place_where_nothing_can_be_created_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file where a folder is needed"):
        render_reid(tmp_path / "file" / "set", SMALL)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("cameras", 1, "2 to 9"),
        ("images_per_camera", 1, "2 to 1000"),
        ("train_identities", 1, "2 to 5000"),
        ("height", 8, "16 to 1024"),
        ("seed", -1, "0 to "),
    ],
)
def test_settings_out_of_range_name_the_key(key: str, value: int, allowed: str) -> None:
    with pytest.raises(UserError, match=f"^{key}: {value} given; allowed: {allowed}"):
        ReidSettings(**{key: value})


# --- people ------------------------------------------------------------------------------------


def test_look_alikes_share_colours_and_nothing_else() -> None:
    people = [person(3, identity) for identity in range(1, 2 * LOOK_ALIKES + 1)]
    first, second = people[:LOOK_ALIKES], people[LOOK_ALIKES:]
    assert {look.colours for look in first} == {first[0].colours}
    assert {look.colours for look in second} == {second[0].colours} != {first[0].colours}
    shapes = {
        (p.hair, p.upper, p.upper_pattern, p.lower, p.lower_pattern, p.bag, p.side) for p in people
    }
    assert len(shapes) == len(people)


def test_views_of_a_person_share_their_appearance_and_two_people_differ() -> None:
    people = [person(1, 1 + LOOK_ALIKES * group) for group in range(12)]
    shares = {view: [colour_shares(drawn(look, view)) for look in people] for view in VIEWS}
    for view in ("back", "left", "right"):
        overlap = [[np.minimum(a, b).sum() for b in shares[view]] for a in shares["front"]]
        nearest = np.argmax(overlap, axis=1)
        assert (nearest == np.arange(12)).sum() >= 10, view


def test_a_print_is_on_the_chest_only() -> None:
    look = replace(person(0, 1), upper_pattern="logo", upper="tee", bag="none", hair="bald")
    red = (176, 48, 50)
    colours = replace(look.colours, upper=((38, 38, 46), red), lower=((38, 38, 46),) * 2)
    look = replace(look, colours=replace(colours, shoes=(38, 38, 46)), contrast_sleeves=False)
    seen = {view: (drawn(look, view) == red).all(axis=2).sum() for view in VIEWS}
    assert seen["front"] > 100
    assert seen["back"] == seen["left"] == seen["right"] == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_a_handbag_hangs_on_its_own_side(side: int) -> None:
    yellow = (206, 170, 70)
    look = replace(person(0, 1), bag="handbag", side=side, hair="bald", lower="trousers")
    dark = ((38, 38, 46), (38, 38, 46))
    colours = replace(look.colours, bag=yellow, upper=dark, lower=dark, shoes=dark[0])
    look = replace(look, colours=colours)
    columns = {
        view: np.nonzero((drawn(look, view, phase=0) == yellow).all(axis=2))[1] for view in VIEWS
    }
    assert np.sign(columns["front"].mean() - 49.5) == side  # the person's left is at the right
    assert np.sign(columns["back"].mean() - 49.5) == -side
    near, far = ("left", "right") if side == 1 else ("right", "left")
    assert columns[near].size > columns[far].size


def test_the_left_view_mirrors_the_right_view_of_the_mirrored_person() -> None:
    look = replace(person(0, 3), bag="handbag", upper_pattern="plain", lower_pattern="plain")
    right, left = drawn(replace(look, side=-1), "right"), drawn(replace(look, side=1), "left")

    def differing(first: np.ndarray, second: np.ndarray) -> float:
        # blocks of 4 x 4 pixels, because mirrored edges fall on neighbouring pixels
        blocks = (first.astype(float) - second).reshape(50, 4, 25, 4, 3).mean(axis=(1, 3))
        return (np.abs(blocks).max(axis=2) > 40).mean()

    assert differing(left, right[:, ::-1]) < 0.03
    assert differing(left, right) > 0.1


def test_stripes_of_cloth_run_as_they_are_called() -> None:
    brush = Brush(Image.new("RGB", (100, 200)), (50, 0), 200)
    black_white = ((0, 0, 0), (255, 255, 255))
    across = np.asarray(cloth(brush, "horizontal", black_white, front=True))[40:180, 20:80, 0]
    down = np.asarray(cloth(brush, "vertical", black_white, front=True))[40:180, 20:80, 0]
    assert (across == across[:, :1]).all()
    assert (down == down[:1]).all()
    for cloth_lines in (across[:, 0], down[0]):
        assert 0.35 < (cloth_lines == 255).mean() < 0.65
    assert cloth(brush, "plain", black_white, front=True) == (0, 0, 0)


# --- the classification set --------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    settings = ClassSettings(train_per_class=2, val_per_class=1, cameras=2, seed=1)
    render_classes(tmp_path / "a", settings)
    render_classes(tmp_path / "b", settings)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    data = read_image_folder(tmp_path / "a")
    assert data.classes == tuple(sorted(f"{pattern}-{lower}" for pattern, lower in CLASSES))
    assert 12 <= len(data.classes) <= 24
    assert (len(data.train), len(data.probes)) == (2 * len(CLASSES), len(CLASSES))
    stated = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert sum(stated["images"].values()) == settings.num_images == 3 * len(CLASSES)
    assert len({path.read_bytes() for path in (tmp_path / "a").rglob("*.jpg")}) == 3 * len(CLASSES)
