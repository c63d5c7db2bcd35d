"""The façade's functions are the commands': the same files, byte by byte, in the same places."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import dcsnas as dn
from dcsnas.cli.main import run as run_command
from dcsnas.config.files import read_json
from dcsnas.config.search import search_model
from dcsnas.config.stages import train_model
from dcsnas.spaces.shipped import resolve
from latency_fakes import CONDITIONS, fake_latency, fake_table, micro_space
from reid_data import write_class_folder

SPACE = micro_space()


def command(*arguments: object) -> None:
    """Run a command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["dcsnas", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_command()
    assert stop.value.code == 0


def test_a_sampled_network_is_the_commands(tmp_path: Path) -> None:
    arguments = ["--seed", 3, "--attention", "sa", "--out", tmp_path / "command.yaml"]
    command("sample", "tiny", *arguments)
    network = dn.load_space("tiny", attention="sa").sample(seed=3)
    dn.save_architecture(str(tmp_path / "session.yaml"), network)
    written = (tmp_path / "session.yaml").read_bytes()
    assert written == (tmp_path / "command.yaml").read_bytes()
    assert dn.load_architecture(str(tmp_path / "session.yaml")) == network


@pytest.mark.parametrize(
    ("options", "attention", "keywords", "name"),
    [
        ((), None, {}, "tiny-*-eager-64x32-b1.json"),
        (
            ("--batch", 8, "--threads", 2, "--input", "32x16", "--sparse", "--rounds", 3),
            "dcs",
            {"batch": 8, "threads": 2, "input": (32, 16), "sparse": True, "rounds": 3},
            "tiny-*-eager-32x16-b8-attention-dcs-2-threads-sparse.json",
        ),
        (
            ("--backend", "channels_last", "--dtype", "bfloat16", "--out", "t.json"),
            None,
            {"backend": "channels_last", "dtype": "bfloat16", "out": "t.json"},
            "t.json",
        ),
    ],
)
def test_a_profile_is_the_commands(
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    attention: str | None,
    keywords: dict[str, Any],
    name: str,
) -> None:
    asked = []

    def measure(space: dn.SearchSpace, path: Path, **how: Any) -> dn.LatencyTable:
        asked.append((space.digest, path, how["conditions"], how["settings"]))
        return fake_table(SPACE)

    for where in ("dcsnas.latency.profile", "dcsnas.api.stages"):
        monkeypatch.setattr(f"{where}.profile_space", measure)
    command("profile", "tiny", *options, *(("--attention", attention) if attention else ()))
    dn.profile(dn.load_space("tiny", attention=attention), **keywords)
    assert asked[0] == asked[1]
    assert asked[0][1].match(name)
    assert asked[0][1].parent == Path("." if "out" in keywords else "latency_tables")


def test_a_table_predicts(folder: Path) -> None:
    table, network = dn.load_table(str(folder / "table.json")), SPACE.sample(seed=2)
    assert table.predict_ms(network) == fake_table(SPACE).predict_ms(network.network)


def test_a_search_is_the_commands(folder: Path, searched: dn.SearchRun) -> None:
    changes = ["--target-ms", 0.3, "--set", "epochs=3", "--table", folder / "table.json"]
    out = folder / "searched_by_command"
    command("search", folder / "search.yaml", *changes, "--out", out, "--allow-foreign")
    names = ["config.yaml", "inputs.json", "metrics.jsonl", "probabilities.jsonl", "result.json"]
    for name in (*names, "space.yaml", "table.json", "supernet.safetensors"):
        assert (out / name).read_bytes() == (searched.path / name).read_bytes(), name
    assert searched.result == read_json(out / "result.json")
    assert "objective: {form: target" not in (folder / "search.yaml").read_text()


def test_probabilities_run_the_supernet(searched: dn.SearchRun) -> None:
    probabilities = searched.probabilities
    assert list(probabilities) == [decision.label for decision in SPACE.decisions]
    assert all(sum(row) == pytest.approx(1) for row in probabilities.values())
    assert probabilities != SPACE.uniform()
    features = dn.Supernet(searched.space)(torch.rand(2, 3, 16, 8), probabilities)
    assert features.shape == (2, SPACE.feature_dim)


@pytest.mark.parametrize("best_of", [1, 3])
def test_a_derived_network_is_the_commands(
    folder: Path, searched: dn.SearchRun, best_of: int
) -> None:
    table = dn.load_table(folder / "table.json")
    target = table.predict_ms(SPACE.any_architecture) * 1.5
    written = searched.path / "architecture.yaml"
    written.unlink(missing_ok=True)
    command("derive", searched.path, "--target-ms", target, "--best-of", best_of)
    expected = written.read_bytes()
    written.unlink()
    found = searched.derive(target_ms=target, best_of=best_of)
    assert written.read_bytes() == expected
    assert found == dn.load_architecture(written)
    assert found.provenance.target_ms == target
    assert (found.provenance.predicted_latency_ms or 9) <= target
    again = dn.SearchRun(str(searched.path))
    options = {"best_of": best_of, "data": folder / "data", "force": best_of > 1}
    assert again.derive(target_ms=target, **options) == found


def test_a_training_is_the_commands(
    folder: Path, searched: dn.SearchRun, trained: dn.TrainedRun
) -> None:
    out = folder / "trained_by_command"
    command(
        "retrain", folder / "retrain.yaml", "--arch", folder / "network.yaml",
        "--from", searched.supernet, "--out", out,
    )  # fmt: skip
    for name in ("config.yaml", "inputs.json", "metrics.jsonl", "model.safetensors"):
        assert (out / name).read_bytes() == (trained.path / name).read_bytes(), name
    assert trained.weights == folder / "trained" / "model.safetensors"
    assert trained.header.stage == "retrain"


def test_a_pretraining_has_a_score_and_no_head(tmp_path: Path) -> None:
    write_class_folder(tmp_path / "classes")
    content = {"data": {"root": "elsewhere", "workers": 0}, "epochs": 1, "batch_size": 8}
    backbone = dn.train(
        content, SPACE.sample(), data=tmp_path / "classes", out=tmp_path / "run", stage="pretrain"
    )
    assert backbone.weights.name == "backbone.safetensors"
    assert backbone.score == read_json(tmp_path / "run" / "result.json")["accuracy_percent"]
    with pytest.raises(dn.UserError, match="stage 'pretrain', which have no head"):
        backbone.evaluate()


@pytest.mark.parametrize("rules", [{}, {"flip": True, "rerank": True, "camera_filter": False}])
def test_scores_are_the_commands(
    folder: Path, trained: dn.TrainedRun, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any]
) -> None:
    latency = fake_latency(1.0, CONDITIONS.model_dump(mode="json"))
    monkeypatch.setattr("dcsnas.evaluation.speed.measure_latency", lambda path, **options: latency)
    names = [("--" if on else "--no-") + name.replace("_", "-") for name, on in rules.items()]
    command(
        "evaluate", trained.weights, "--data", folder / "data", "--workers", 0, "--force", *names
    )
    expected = read_json(trained.path / "metrics.json")
    report = trained.evaluate(workers=0, **rules)
    assert {**json.loads(json.dumps(report.record())), "latency": latency} == expected
    assert (report.map, report.rank1) == (expected["map"], expected["rank1"])
    elsewhere = dn.load_weights(str(trained.weights)).evaluate(folder / "data", workers=0, **rules)
    assert elsewhere.record() == report.record()


def test_features_and_exports_are_the_commands(
    folder: Path, trained: dn.TrainedRun, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    images = folder / "data" / "query"
    command("embed", trained.weights, images, "--workers", 0, "--out", tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as archive:
        np.testing.assert_array_equal(trained.embed(images), archive["features"])
    command("export", trained.weights, "--out", tmp_path / "command.onnx")
    exported = trained.export(tmp_path / "session.onnx")
    written = (tmp_path / "session.onnx").read_bytes()
    assert written == (tmp_path / "command.onnx").read_bytes()
    assert exported.num_bytes == len(written)
    assert not trained.weights.with_suffix(".onnx").exists()


def test_runs_lie_where_those_of_commands_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for stage in ("run_search", "run_train"):
        monkeypatch.setattr(
            f"dcsnas.api.stages.{stage}", lambda *a, **k: seen.append(a) or Result()
        )
    monkeypatch.chdir(tmp_path)
    config = folder / "search.yaml"
    assert dn.search(config).path == Path("runs/search-0000-search")
    Path("runs/search-0000-search").mkdir(parents=True)
    assert dn.search(str(config), data="other").path == Path("runs/search-0001-search")
    content = yaml.safe_load(config.read_text())
    assert dn.search(content, set=["epochs=9"]).path == Path("runs/search-0001-custom")
    dn.train("retrain_tiny", SPACE.sample(), data="people")
    first, second, third = (one[0] for one in seen[:3])
    assert (second.data.root, second.data.workers) == (Path("other"), 0)
    assert third == first.model_copy(update={"epochs": 9})
    resolved, architecture, run = seen[3]
    assert (resolved.data.root, architecture) == (Path("people"), SPACE.sample())
    assert run.path == Path("runs/retrain-0000-retrain_tiny")


class Result:
    weights = Path("model.safetensors")
    score = None


def test_configurations_may_be_files_contents_or_objects(folder: Path) -> None:
    path = folder / "search.yaml"
    content = yaml.safe_load(path.read_text())
    for given in (path, str(path), content, resolve(search_model, path, [])):
        found = resolve(search_model, given, ["objective={form: mul}", "run.seed=3"])
        assert (found.objective.form, found.run.seed) == ("mul", 3)  # type: ignore[attr-defined]
        assert resolve(search_model, given, []) == resolve(search_model, path, [])
    model = partial(train_model, "retrain")
    assert resolve(model, "retrain_tiny", []).epochs == 30
