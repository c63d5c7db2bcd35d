"""``dcsnas sample``: networks of a space without a search."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import dcsnas as dn
from dcsnas.cli.main import run
from dcsnas.latency.table import load_table, predict_ms
from dcsnas.search import random_search
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace

Sample = Callable[..., tuple[int, str]]
TABLES = Path(__file__).parents[2] / "latency_tables"
TABLE = TABLES / "tiny-amd-epyc-cpu-family-26-model-2-avx512-eager-64x32-b1.json"
AT_2_MS = ("--table", str(TABLE), "--target-ms", "2")


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sample:
    """Return a function that runs the command: (code, errors)."""

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["dcsnas", "sample", *arguments])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return command


def written(sample: Sample, path: Path, *arguments: str) -> ArchitectureFile:
    """Return what the command wrote."""
    assert sample("tiny", "--out", str(path), *arguments) == (0, "")
    return load_architecture(path)


def test_the_ends_bracket_random_networks(sample: Sample, tmp_path: Path):
    found = {
        which: written(sample, tmp_path / f"{which}.yaml", "--which", which)
        for which in ("smallest", "random", "largest")
    }
    assert found["smallest"].macs < found["random"].macs < found["largest"].macs
    assert found["smallest"].params < found["random"].params < found["largest"].params


def test_a_file_rebuilds_the_choice_it_names(sample: Sample, tmp_path: Path):
    found = written(sample, tmp_path / "a.yaml", "--seed", "3")
    space = SearchSpace.load(find_space("tiny"))
    assert space.architecture(found.provenance.choice) == found.network
    assert found == written(sample, tmp_path / "b.yaml", "--seed", "3")
    assert found != written(sample, tmp_path / "c.yaml", "--seed", "4")


def test_a_file_that_is_there_is_replaced_if_asked_to(sample: Sample, tmp_path: Path):
    """Faults 15."""
    path = tmp_path / "a.yaml"
    path.write_text("my notes")
    code, errors = sample("tiny", "--out", str(path))
    assert code == 2
    assert errors == (
        f"error: {path}: exists already; give another --out, or --force to replace it\n"
    )
    assert path.read_text() == "my notes"
    assert written(sample, path, "--force").provenance.space == "tiny"


def test_a_random_network_of_a_latency(sample: Sample, tmp_path: Path):
    """Wish 4: the baseline of a searched network."""
    table = load_table(TABLE)
    options = ("--target-ms", "1.5", "--table", str(TABLE))
    found = [
        written(sample, tmp_path / f"{i}.yaml", *options, "--seed", seed)
        for i, seed in enumerate("121")
    ]
    assert found[0] == found[2] != found[1]
    for one in found:
        predicted = predict_ms(table, one.network.layers, one.input)
        assert predicted == one.provenance.predicted_latency_ms == pytest.approx(1.5, rel=0.01)
        assert (one.provenance.target_ms, one.provenance.table) == (1.5, TABLE.name)
    assert dn.sample_at(TABLE, 1.5, seed=2) == found[1]


@pytest.mark.parametrize("kind", ["none", "sa", "dcs"])
def test_attention_and_input_are_as_asked(sample: Sample, tmp_path: Path, kind: str):
    found = written(sample, tmp_path / "a.yaml", "--attention", kind, "--input", "128x64")
    kinds = {getattr(layer, "kind", None) for layer in found.network.layers} - {None}
    assert kinds == (set() if kind == "none" else {kind})
    assert found.input == (128, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny", "--input", "128"], "--input 128: expected HEIGHTxWIDTH in pixels"),
        (["tinny"], "tinny"),
        (["tiny", "--out", "."], ".: is a folder; give the path of a file"),
        (["tiny", "--target-ms", "2"], "--target-ms and --table: a latency needs a table; give"),
        (["tiny", "--table", str(TABLE), "--target-ms", "-1"], "--target-ms -1: expected millisec"),
        (["fbnetv2", *AT_2_MS], "the table of another space (tiny) than fbnetv2"),
        (["tiny", *AT_2_MS, "--which", "largest"], "leave --which and --input out"),
        (["tiny", *AT_2_MS, "--input", "64x32"], "leave --which and --input out"),
        (["tiny", "--table", str(TABLE), "--target-ms", "200"], "no architecture of tiny found"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
):
    fewer = partial(random_search.random_choice_at, max_steps=600)
    monkeypatch.setattr(random_search, "random_choice_at", fewer)
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "a.yaml"]
    code, errors = sample(*arguments, *out)
    assert code == 2
    assert message in errors
    assert list(tmp_path.iterdir()) == []
