"""Files of version 0.1 (schema 1), files of a newer version, and digests that must never change.

``tests/files/schema_1`` was written by commit f962e93, the last one of schema 1, whose digests and
costs are the constants here: ``dcsnas sample tiny --seed 3 --out architecture.yaml``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml, write_yaml
from dcsnas.latency.table import load_table
from dcsnas.spaces.architecture import load_architecture, save_architecture
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace
from dcsnas.spaces.units import Cost

Fails = Callable[..., str]
FILES = Path(__file__).parents[1] / "files" / "schema_1"
TABLES = Path(__file__).parents[2] / "latency_tables"
NEWER = (
    "schema_version: schema 3 is of a newer dcsnas; this one reads up to 2: upgrade dcsnas, or "
    "write the file again with this one (given: 3)"
)
SPACE_DIGESTS = {
    "fbnetv2": "3aab4cc3c67cf799",
    "fbnetv2_e6": "ad098dadea127e46",
    "fbnetv2_large": "cfba8d978e89d937",
    "fbnetv2_large_e6": "de7566c49f6c4f88",
    "fbnetv2_xlarge": "46c73b66affcf42c",
    "fbnetv2_xlarge_e6": "8c75a656a8aa8735",
    "tiny": "1575c0d570636fef",
}
CPU = "amd-epyc-cpu-family-26-model-2-avx512"
TABLE_DIGESTS = {
    f"fbnetv2-{CPU}-eager-256x128-b1": ("fbnetv2", "c5a87f2d9fced296"),
    f"fbnetv2-{CPU}-onnxruntime-256x128-b1": ("fbnetv2", "91fb690bbebd283e"),
    f"tiny-{CPU}-eager-64x32-b1": ("tiny", "1eab0d1a87cd6cbe"),
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return the folder that the commands here run in."""
    return tmp_path


def test_an_architecture_of_schema_1_is_the_same_network() -> None:
    file = load_architecture(FILES / "architecture.yaml")
    assert file.network.digest == "459c095e641060d0"
    assert file.cost() == Cost(params=127_400, macs=3_651_296, activations=149_520)
    assert file.cost((256, 128)) == Cost(params=127_400, macs=59_338_240, activations=2_374_992)
    assert file.feature_dim == 256
    space = SearchSpace.load(find_space("tiny"))
    assert file.provenance.space_digest == space.digest
    assert space.architecture(file.provenance.choice) == file.network


def test_it_is_written_again_as_schema_2(tmp_path: Path) -> None:
    old, path = FILES / "architecture.yaml", tmp_path / "architecture.yaml"
    file = load_architecture(old)
    save_architecture(path, file)
    assert load_architecture(path) == file
    before, after = read_yaml(old), read_yaml(path)
    assert (before.pop("schema_version"), after.pop("schema_version")) == (1, 2)
    assert after == before


def test_a_space_of_schema_1_with_a_choice_of_attention_has_its_digest() -> None:
    space = SearchSpace.load(FILES / "micro.yaml")
    assert space.digest == "85dd9b0ae3d4e8ac"
    assert [d.options for d in space.decisions if d.label == "a0_kind"] == [("none", "sa", "dcs")]


@pytest.mark.parametrize("name", SPACE_DIGESTS)
def test_shipped_spaces_keep_their_digests(name: str) -> None:
    assert SearchSpace.load(find_space(name)).digest == SPACE_DIGESTS[name]


@pytest.mark.parametrize("name", TABLE_DIGESTS)
def test_shipped_tables_keep_their_digests(name: str) -> None:
    table = load_table(TABLES / f"{name}.json", expected=None)
    space, digest = TABLE_DIGESTS[name]
    assert table.space.digest == SPACE_DIGESTS[space]
    assert table.digest == digest


def with_schema(source: Path, target: Path, version: Any) -> Path:
    """Write ``source`` again with another schema version."""
    write_yaml(target, {**read_yaml(source), "schema_version": version})
    return target


def test_a_newer_architecture_is_refused(tmp_path: Path) -> None:
    path = with_schema(FILES / "architecture.yaml", tmp_path / "newer.yaml", 3)
    with pytest.raises(UserError) as caught:
        load_architecture(path)
    assert str(caught.value) == f"{path}: {NEWER}"


@pytest.mark.parametrize(
    "source", [find_space("tiny"), find_space("resnet50")], ids=lambda x: x.stem
)
def test_a_newer_space_is_refused(source: Path, tmp_path: Path) -> None:
    path = with_schema(source, tmp_path / "newer.yaml", 3)
    with pytest.raises(UserError) as caught:
        SearchSpace.load(path)
    assert str(caught.value) == f"{path}: {NEWER}"


@pytest.mark.parametrize("version", [0, -1, "two", None, True, 1.5])
def test_what_is_no_version_is_refused(version: Any, tmp_path: Path) -> None:
    for source, load in (
        (FILES / "architecture.yaml", load_architecture),
        (find_space("tiny"), SearchSpace.load),
    ):
        with pytest.raises(UserError, match="schema_version: "):
            load(with_schema(source, tmp_path / "wrong.yaml", version))


def test_commands_refuse_newer_files(work: Path, fails: Fails) -> None:
    space = with_schema(find_space("tiny"), work / "space.yaml", 3)
    assert fails("spaces", str(space)) == f"error: {space}: {NEWER}\n"
    arch = with_schema(FILES / "architecture.yaml", work / "architecture.yaml", 3)
    arguments = ("--arch", str(arch), "--data", str(work), "--out", str(work / "run"))
    assert fails("retrain", "retrain_tiny", *arguments) == f"error: {arch}: {NEWER}\n"


@pytest.mark.parametrize("version", [1, 2])
def test_both_schemas_of_a_space_are_the_same_networks(version: int, tmp_path: Path) -> None:
    path = with_schema(find_space("tiny"), tmp_path / "tiny.yaml", version)
    space, shipped = SearchSpace.load(path), SearchSpace.load(find_space("tiny"))
    assert yaml.safe_load(path.read_text())["schema_version"] == version
    assert space.any_architecture.digest == shipped.any_architecture.digest
    assert space.decisions == shipped.decisions
