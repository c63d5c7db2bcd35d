"""``dcsnas sample``: networks of a space without a search."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dcsnas.cli.main import run
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace

Sample = Callable[..., tuple[int, str]]


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
    ],
)
def test_mistakes_are_said_and_nothing_is_written(
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "a.yaml"]
    code, errors = sample(*arguments, *out)
    assert code == 2
    assert message in errors
    assert list(tmp_path.iterdir()) == []
