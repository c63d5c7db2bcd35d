"""``dcsnas calibrate``, ``match``, ``embed`` and ``export`` on real files, and their mistakes."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_json
from deployment_setup import Networks
from latency_fakes import micro_space

Command = Callable[..., str]

A, B = "people/query/0009_c1s1_000001_00.jpg", "people/bounding_box_test/0009_c2s1_000002_00.jpg"
OTHER = "people/query/0010_c1s1_000001_00.jpg"
ON_CPU = ("--device", "cpu")
HERE = (*ON_CPU, "--workers", "0")


@pytest.fixture
def work(tmp_path: Path, weights: Path, people: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with weights and a data set."""
    weights.rename(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dcsnas(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs a command and returns what it printed."""

    def command(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        assert stop.value.code == 0, captured.err
        return captured.out

    return command


def similarity(printed: str) -> float:
    found = re.search(r"^cosine similarity (-?\d\.\d{4})$", printed, re.M)
    assert found
    return float(found[1])


def test_embed(dcsnas: Command) -> None:
    printed = dcsnas("embed", "model.safetensors", "people/query", B, *HERE, "--out", "q.npz")
    assert "17 images, 8 features each, of unit length, in q.npz" in printed
    with np.load("q.npz", allow_pickle=False) as archive:
        features, names = archive["features"], archive["names"]
    assert features.shape == (17, 8)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert names[0] == A
    assert names[16] == B
    shown = similarity(dcsnas("match", "model.safetensors", A, B, *ON_CPU))
    assert shown == pytest.approx(features[0] @ features[16], abs=6e-5)


def test_match_without_and_with_calibration(dcsnas: Command) -> None:
    alone = dcsnas("match", "model.safetensors", A, OTHER, *ON_CPU)
    assert "dcsnas calibrate model.safetensors --data DIR" in alone
    assert "people" not in alone

    data = ("--data", "people", "--fpr", "0.1")
    calibrated = dcsnas("calibrate", "model.safetensors", *data, *HERE)
    stated = read_json(Path("threshold.json"))
    threshold, accepted = stated["threshold"], stated["wrong_pairs_accepted"]
    assert f"threshold: cosine {threshold:.4f} at false-positive rate 0.1" in calibrated
    assert f"{accepted} of 224 wrong pairs reach it ({accepted / 224:.2g})" in calibrated
    assert f"{100 * stated['measured_tpr']:.2f} % of 16 right pairs" in calibrated
    assert ("a rough estimate" in calibrated) == (accepted < 10)

    verdicts = set()
    for first, second in [(A, A), (A, B), (A, OTHER), (B, OTHER)]:
        printed = dcsnas("match", "model.safetensors", first, second, *ON_CPU)
        same = similarity(printed) >= round(threshold, 4)
        wrong, missed = 100 * stated["measured_fpr"], 100 * (1 - stated["measured_tpr"])
        verdict = (
            f"same person: {threshold:.4f} is reached by {wrong:.2g} % of the pairs of two people "
            if same
            else f"not called the same person: {threshold:.4f} is not reached, nor is it by "
            f"{missed:.0f} % of the pairs of one person "
        )
        assert f"{verdict}in people" in printed
        verdicts.add(same)
    assert verdicts == {True, False}


def test_rough_estimates_are_called_so(dcsnas: Command) -> None:
    data = ("--data", "people", "--fpr", "0.02", "--out", "strict.json")
    printed = dcsnas("calibrate", "model.safetensors", *data, *HERE)
    assert re.search(r"a rough estimate: it rests on [0-4] wrong pairs", printed)
    threshold = f"person: {read_json(Path('strict.json'))['threshold']:.4f}"
    matching = ("match", "model.safetensors", A, B, *ON_CPU)
    assert threshold in dcsnas(*matching, "--threshold", "strict.json")
    assert "there is no threshold.json" in dcsnas(*matching)


def test_export(dcsnas: Command) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    printed = dcsnas("export", "model.safetensors", "--format", "onnx")
    assert "images uint8 [batch, 3, 16, 8], RGB, 0 to 255, not normalised" in printed
    assert "features float32 [batch, 8] of unit length" in printed
    for batch in (1, 3):
        stated = rf"batch {batch}: at most \d\.\de[-+]\d\d from torch; 0 of [1-9]"
        assert re.search(stated, printed)
    size = Path("model.onnx").stat().st_size
    assert f"model.onnx: {size / 1e6:.1f} MB" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "WEIGHTS", "people/query"),
        ("match", "WEIGHTS", A, B),
        ("calibrate", "WEIGHTS", "--data", "people"),
        ("export", "WEIGHTS"),
    ],
)
def test_weights_that_are_none(fails: Command, work: Path, arguments: tuple[str, ...]) -> None:
    Networks(work).save("backbone.safetensors", micro_space(), stage="pretrain")
    Path("text.safetensors").write_text("no weights")
    for name, message in {
        "backbone.safetensors": "holds weights of stage 'pretrain'",
        "text.safetensors": "not a safetensors file, or truncated",
        "none.safetensors": "no such file",
    }.items():
        given = [name if argument == "WEIGHTS" else argument for argument in arguments]
        assert message in fails(*given)


def test_broken_images(fails: Command, work: Path) -> None:
    Path(OTHER).write_bytes(b"no image")
    for arguments in (
        ("embed", "model.safetensors", "people/query", *HERE),
        ("match", "model.safetensors", A, OTHER, *ON_CPU),
        ("calibrate", "model.safetensors", "--data", "people", "--fpr", "0.1", *HERE),
    ):
        assert f"{OTHER}: cannot be decoded as an image" in fails(*arguments)


def test_images_that_are_not_there(fails: Command, work: Path) -> None:
    (work / "empty").mkdir()
    assert "empty: no images" in fails("embed", "model.safetensors", "empty", *HERE)
    assert "x.jpg: no such file" in fails("embed", "model.safetensors", "x.jpg", *HERE)
    assert "x.jpg: cannot be decoded" in fails("match", "model.safetensors", A, "x.jpg", *ON_CPU)


def test_rates_that_do_not_fit(fails: Command) -> None:
    calibrate = ("calibrate", "model.safetensors", "--data", "people", *HERE)
    assert "--fpr 2: a rate between 0 and 1" in fails(*calibrate, "--fpr", "2")
    message = fails(*calibrate)
    assert "--fpr 0.001: people has 224 pairs of two identities" in message
    assert "allowed: 0.0045 or more" in message
    assert "nowhere: " in fails("calibrate", "model.safetensors", "--data", "nowhere", *HERE)


def test_thresholds_that_do_not_fit(fails: Command, dcsnas: Command, work: Path) -> None:
    matching = ("match", "model.safetensors", A, B, *ON_CPU)
    assert "none.json: no such file" in fails(*matching, "--threshold", "none.json")
    dcsnas("calibrate", "model.safetensors", "--data", "people", "--fpr", "0.1", *HERE)
    other = Networks(work).save("other.safetensors", micro_space(), seed=1)
    message = fails("match", other.name, A, B, *ON_CPU)
    assert "threshold.json: calibrated for other weights" in message
    write_json(Path("threshold.json"), {})
    assert "threshold.json: threshold: missing; add this key" in fails(*matching)


def test_outputs_that_are_folders(fails: Command) -> None:
    out = ("--out", "people")
    for arguments in (
        ("embed", "model.safetensors", A, *out),
        ("calibrate", "model.safetensors", "--data", "people", *out),
        ("export", "model.safetensors", *out),
    ):
        assert "people: is a folder; give the path of a file" in fails(*arguments)


def test_a_result_is_replaced_only_when_told_to(dcsnas: Command, fails: Callable[..., str]) -> None:
    """Faults 15, and its kind: every command that writes a file of its own."""
    data = ("--data", "people", "--fpr", "0.1")
    for command, file in {
        ("calibrate", *data): "threshold.json",
        ("embed", B): "embeddings.npz",
        ("export",): "model.onnx",
    }.items():
        Path(file).write_text("work of years")
        name, *rest = command
        end = HERE if name != "export" else ()
        message = fails(name, "model.safetensors", *rest, *end)
        assert f"{file}: exists already; give another --out, or --force to replace it" in message
        assert Path(file).read_text() == "work of years"
    dcsnas("embed", "model.safetensors", B, *HERE, "--force")
    with np.load("embeddings.npz", allow_pickle=False) as archive:
        assert archive["features"].shape == (1, 8)


def test_the_folder_of_a_run_stands_for_its_weights(
    dcsnas: Command, fails: Callable[..., str]
) -> None:
    named = dcsnas("match", "model.safetensors", A, B, *ON_CPU)
    assert similarity(dcsnas("match", ".", A, B, *ON_CPU)) == similarity(named)
    message = fails("embed", "people", A, *HERE)
    assert "people: a folder without model.safetensors (dcsnas retrain writes it)" in message


def test_scores_are_shown_and_kept_before_latency_is_measured(
    dcsnas: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 14: what fails after the scores takes none of them along."""

    def fail(*args: object, **options: object) -> None:
        raise UserError("the machine is on fire")

    monkeypatch.setattr("dcsnas.evaluation.speed.measure_latency", fail)
    monkeypatch.setattr("dcsnas.cli.evaluate.with_allocator", lambda: None)
    evaluate = ("evaluate", "model.safetensors", "--data", "people", *HERE)
    monkeypatch.setattr(sys, "argv", ["dcsnas", *evaluate])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    kept = read_json(Path("metrics.json"))
    assert kept["latency"] == {}
    printed = dcsnas(*evaluate, "--no-latency", "--force")
    assert f"     map {kept['map']:6.2f} %" in printed
    assert read_json(Path("metrics.json"))["map"] == kept["map"]


def test_scores_go_nowhere_where_nothing_can_be_written(fails: Callable[..., str]) -> None:
    """Faults 14: a folder without rights was found out after everything was computed."""
    message = fails("evaluate", "model.safetensors", "--data", "people", "--out", "/proc/m.json")
    assert "/proc/m.json: cannot be written" in message
