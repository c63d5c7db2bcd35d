"""The options of dcsnas profile, and what it says before and after it measures."""

from pathlib import Path

import pytest
import yaml

from dcsnas.cli.main import run
from dcsnas.cli.profile import pick_backend
from dcsnas.config.errors import UserError
from dcsnas.latency.profile import default_name
from dcsnas.latency.table import load_table
from dcsnas.spaces.space import SearchSpace
from latency_fakes import CONDITIONS, micro_space


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        (None, None, "eager"),
        (None, "cpu", "eager"),
        (None, "cuda", "cuda"),
        ("cuda-graph", None, "cuda-graph"),
        ("onnxruntime", "cpu", "onnxruntime"),
    ],
)
def test_the_backend_follows_from_what_is_given(backend, device, expected):
    assert pick_backend(backend, device) == expected


@pytest.mark.parametrize(("backend", "device"), [("eager", "cuda"), ("cuda-graph", "cpu")])
def test_a_backend_that_does_not_run_on_the_device_is_refused(backend, device):
    with pytest.raises(UserError, match=rf"--backend {backend} runs on .*--device says {device}"):
        pick_backend(backend, device)


def test_names_tell_tables_apart():
    space = SearchSpace.named("tiny")
    plain = default_name(space, CONDITIONS, sparse=False)
    assert plain == "tiny-fake-eager-16x8-b1.json"
    changed = CONDITIONS.model_copy(update={"threads": 2, "dtype": "bfloat16", "batch": 4})
    name = default_name(space.without_attention(), changed, sparse=True)
    assert name == "tiny-fake-eager-16x8-b4-attention-none-2-threads-bfloat16-sparse.json"


def dcsnas(monkeypatch, capsys, *arguments: str) -> str:
    """Run the command line in this process and return what it printed."""
    monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run()
    printed = capsys.readouterr()
    assert stopped.value.code == 0, printed.err
    return printed.out


def test_a_dry_run_counts_and_measures_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = dcsnas(monkeypatch, capsys, "profile", "fbnetv2", "--dry-run")
    assert "fbnetv2 at 256x128: 3,165 operators (1 conv, 3,120 block, " in shown
    assert "about" in shown
    sparse = dcsnas(monkeypatch, capsys, "profile", "fbnetv2", "--dry-run", "--sparse")
    assert "of them measured, the others interpolated" in sparse
    assert list(tmp_path.iterdir()) == []


def test_the_help_lists_the_backends(monkeypatch, capsys):
    shown = " ".join(dcsnas(monkeypatch, capsys, "profile", "--help").replace("│", " ").split())
    assert "There are eager, channels_last, compile, onnxruntime, cuda, cuda-graph" in shown


def test_a_space_of_one_network_says_so(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"op": "block", "expansion": 2, "width": 8, "stride": 2}]
    file = micro_space(rows=rows).file
    Path("one.yaml").write_text(yaml.safe_dump(file.model_dump(mode="json")))
    shown = dcsnas(monkeypatch, capsys, "profile", "one.yaml", "--rounds", "2", "--out", "t.json")
    calibration = load_table(tmp_path / "t.json", expected=None).file.calibration
    assert calibration is not None
    said = f"calibrated on the space's only network: {calibration.scale:.3f} x sum +0.000 ms\n"
    assert said in shown


def test_a_sparse_table_says_what_was_measured(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "profile",
        "tiny",
        "--input",
        "32x16",
        "--sparse",
        "--rounds",
        "2",
        "--out",
        "t.json",
    ]
    shown = dcsnas(monkeypatch, capsys, *command, "--attention", "none")
    file = load_table(tmp_path / "t.json", expected=None).file
    sources = [entry.source for entry in file.entries.values()]
    assert f"{sources.count('measured'):,} of them measured" in shown
    assert set(sources) == {"measured", "interpolated"}
    assert file.space.kinds == ("none",)
    assert file.calibration is not None
    assert "calibrated on 6 networks" in shown
    assert sorted(tmp_path.iterdir()) == [tmp_path / "t.json"]
