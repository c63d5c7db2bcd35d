"""``dcsnas count``: names, files, conventions, mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run_here

from dcsnas.cli.main import run
from dcsnas.spaces.architecture import save_architecture
from dcsnas.spaces.space import load_space

Count = Callable[..., tuple[int, str, str]]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Count:
    """Return a function that runs the command: (code, output, errors)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcsnas", "count", *arguments])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_a_name_is_the_network_without_attention(count: Count) -> None:
    given = ("mobilenetv2_100", "--input", "256x128", "--convention", "papers", "--json")
    code, out, _ = count(*given)
    expected = {"name": "mobilenetv2_100", "input": [256, 128], "convention": "papers"}
    assert code == 0
    assert json.loads(out) == {**expected, "params": 2_223_872, "macs": 380_076_032}
    _, with_attention, _ = count(*given, "--attention", "sa")
    assert json.loads(with_attention)["macs"] == 381_620_224


def test_all_conventions_as_a_table_and_as_json(count: Count) -> None:
    code, out, _ = count("osnet_x0_25")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[1:5]] == ["dcsnas", "fvcore", "torchreid", "papers"]
    assert lines[1].split()[1:] == ["201,864", "0.0823", "82,314,880"]
    assert "for one image of 256x128, without classifier" in lines[5]
    found = json.loads(count("osnet_x0_25", "--json")[1])
    assert found["dcsnas"] == {"params": 201_864, "macs": 82_314_880}
    assert found["torchreid"]["params"] == 203_568


@pytest.mark.parametrize("given", ["architecture.yaml", "."])
def test_an_architecture_is_counted_as_it_is(
    count: Count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    file = load_space("tiny", "dcs").sample(1)
    save_architecture(tmp_path / "architecture.yaml", file)
    monkeypatch.chdir(tmp_path)
    found = json.loads(count(given, "--convention", "dcsnas", "--json")[1])
    assert (found["params"], found["macs"]) == (file.params, file.macs)
    assert found["input"] == [64, 32]
    code, _, errors = count(given, "--attention", "sa")
    assert (code, errors) == (
        2,
        "error: --attention: an architecture.yaml has its own; leave it out\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("osnet_x0_25", "--convention", "thop"),
            "error: --convention thop: unknown; choose one of dcsnas, fvcore, torchreid, papers, "
            "or leave it out for all of them\n",
        ),
        (("osnet_x0_25", "--input", "256"), "error: --input 256: expected HEIGHTxWIDTH"),
        (
            ("vit_base", "--input", "100x50"),
            "error: backbone vit_base: it cannot take images of 100x50 (its patches measure 16x16, "
            "and both sides must be multiples); set input to a size that it can take, such as "
            "256x128\n",
        ),
        (("tiny",), "error: tiny: a space of many networks (10^"),
        (("osnet",), "error: no search space called 'osnet'"),
        (("osnet_x0_25", "--attention", "cbam"), "error: --attention cbam: "),
        (("missing.yaml",), "error: "),
    ],
)
def test_mistakes(count: Count, arguments: tuple[str, ...], message: str) -> None:
    code, out, errors = count(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith(message), errors


def test_backbones_are_listed_by_a_text_in_their_names(tmp_path: Path) -> None:
    listed = run_here(tmp_path, "spaces", "--backbones", "convnext_ti").split()
    assert any(word.startswith("convnext_tiny") for word in listed)
