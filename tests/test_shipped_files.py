"""Every file that ships with dcsnas loads, and the page about the spaces agrees with them."""

import re
from pathlib import Path

import pytest

from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.shipped import shipped_spaces
from dcsnas.spaces.space import SearchSpace, load_space, space_operators
from dcsnas.spaces.space_file import BackboneFile, load_space_file
from dcsnas.training.ablation.settings import read_ablation

ROOT = Path(__file__).parents[1]
SPACE_FILES = sorted((ROOT / "search_spaces").rglob("*.y*ml"))
BACKBONE_FILES = [p for p in SPACE_FILES if isinstance(load_space_file(p), BackboneFile)]
ROW_FILES = [path for path in SPACE_FILES if path not in BACKBONE_FILES]
LARGE_FILES = [path for path in ROW_FILES if path.stem != "tiny"]
PAGE = (ROOT / "docs" / "search_spaces.md").read_text(encoding="utf-8")


def test_there_are_spaces_and_the_package_finds_them() -> None:
    assert len(ROW_FILES) >= 7
    assert len(BACKBONE_FILES) >= 2
    assert shipped_spaces() == SPACE_FILES


@pytest.mark.parametrize("path", SPACE_FILES, ids=lambda path: path.stem)
def test_space_file_says_how_to_look_at_it(path: Path) -> None:
    assert load_space_file(path).name == path.stem
    assert f"# Look at it: dcsnas spaces {path.stem}\n" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ROW_FILES, ids=lambda path: path.stem)
def test_space_of_rows_loads(path: Path) -> None:
    space = SearchSpace.load(path)
    assert space.num_blocks > 0
    assert space.decisions


@pytest.mark.parametrize("path", BACKBONE_FILES, ids=lambda path: path.stem)
def test_space_of_a_backbone_loads(path: Path) -> None:
    space = SearchSpace.load(path)
    trunk, *attentions = space.any_architecture.layers
    assert trunk.form == f"trunk {path.stem} s{space.file.output_stride}"
    op = "selection" if path.stem in ("transreid", "vit_base") else "attention"
    assert [layer.op for layer in attentions] == [op] * (len(space.slots) - 1)
    assert len(attentions) >= 3


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_below(heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table after ``heading`` on the page, by their first cell."""
    lines = PAGE[PAGE.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return {row[0].strip("`"): row[1:] for row in rows}


def test_page_lists_exactly_the_shipped_spaces() -> None:
    listed = [list(table_below(h)) for h in ("## Shipped", "The largest network of each space")]
    assert listed == [[path.stem for path in files] for files in (ROW_FILES, LARGE_FILES)]


@pytest.mark.parametrize("path", BACKBONE_FILES, ids=lambda path: path.stem)
def test_page_counts_backbones_like_the_code(path: Path) -> None:
    space = SearchSpace.load(path)
    plain, selecting = (
        space.with_attention(kind).any_architecture.cost(space.size) for kind in ("none", "dcs")
    )
    channels = [layer.widths[0] for layer in space.any_architecture.layers[1:]]
    alike = f"{len(channels)} x {channels[0]}" if len(set(channels)) == 1 else ""
    assert table_below("Shipped files, at 256x128")[path.stem] == [
        f"{plain.params / 1e6:.3f}",
        f"{plain.macs / 1e9:.3f}",
        f"{selecting.params / 1e6:.3f}",
        f"{selecting.macs / 1e9:.3f}",
        alike or ", ".join(map(str, channels)),
    ]


@pytest.mark.parametrize("path", ROW_FILES, ids=lambda path: path.stem)
def test_page_counts_like_the_code(path: Path) -> None:
    space = SearchSpace.load(path)
    ends = [space.architecture(choice(space)) for choice in (smallest_choice, largest_choice)]
    low, high = (network.cost(space.size) for network in ends)
    least, most = (network.memory(space.size) / 1e6 for network in ends)
    assert table_below("## Shipped spaces")[path.stem] == [
        str(space.num_blocks),
        f"10^{space.log10_size:.1f}",
        f"{low.params / 1e6:.3f} to {high.params / 1e6:.3f}",
        f"{low.macs / 1e9:.3f} to {high.macs / 1e9:.3f}",
        f"{least:.3f} to {most:.3f}",
        str(len(space_operators(space, space.size))),
    ]


@pytest.mark.parametrize("path", LARGE_FILES, ids=lambda path: path.stem)
def test_page_counts_largest_networks_like_the_code(path: Path) -> None:
    file = SearchSpace.load(path).file
    expected = []
    for size in ((256, 128), (384, 128)):
        for stride in (32, 16):
            space = SearchSpace(file.model_copy(update={"output_stride": stride}))
            space = space.with_attention("none")
            cost = space.architecture(largest_choice(space)).cost(size)
            expected.append(f"{cost.macs / 1e9:.3f}")
            params = f"{cost.params / 1e6:.3f}"
    assert table_below("The largest network of each space")[path.stem] == [params, *expected]


@pytest.mark.parametrize(("name", "blocks", "size"), [("example", 6, 2 * 24**3 * 7**2),
                                                       ("resnet50_kinds", 0, 3**4)])  # fmt: skip
def test_examples_on_the_page_are_spaces(tmp_path: Path, name: str, blocks: int, size: int) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (example,) = (text for text in examples if f"name: {name}\n" in text)
    path = tmp_path / "example.yaml"
    path.write_text(example)
    space = SearchSpace.load(path)
    assert space.num_blocks == blocks
    assert 10**space.log10_size == pytest.approx(size)


def test_published_and_own_numbers_share_no_table() -> None:
    own, published = PAGE.split("## Which published number belongs")
    assert "5.9 | 0.572" in published
    for number in re.findall(r"\d+\.\d{3} to \d+\.\d{3}", own):
        assert number not in published
    # the networks that these are of; among those of all backbones one number agrees by chance
    spaces = own[own.index("## Shipped spaces") :].replace("|", " ").split()
    for row in table_below("## Which published number belongs").values():
        assert not set(row) & set(spaces)


ABLATIONS = sorted((ROOT / "experiments" / "ablations").glob("*.yaml"))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_ablation_loads_and_says_how_it_is_run(path: Path) -> None:
    config = read_ablation(path.stem)
    assert f"# Command: dcsnas ablate {path.stem} " in path.read_text(encoding="utf-8")
    for name, given in config.variants.items():
        load_space(given.network, given.attention)
        assert config.compared_with(name) in config.variants
    assert {path.stem for path in ABLATIONS} >= {
        f"table{n}_{year}{tail}"
        for n, year in ((5, 2025), (6, 2025), (7, 2025), (7, 2022))
        for tail in ("", "_lpc")
    }
