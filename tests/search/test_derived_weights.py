"""A derived network with the supernet's weights: evaluated as any other, and as in the search."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dcsnas.cli.derive import derive as derive_command
from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import read_reid, split_train
from dcsnas.evaluation.features import Extractor
from dcsnas.evaluation.ranking import evaluate_retrieval
from dcsnas.evaluation.reid import load_reid_network
from dcsnas.latency.table import save_table
from dcsnas.nn.weights import read_header, read_state, save_weights
from dcsnas.search import derived_weights
from dcsnas.search.derive import architecture_of, derive, derive_ranked
from dcsnas.search.derived_weights import save_derived_weights, score_derived
from dcsnas.search.run import search
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture, save_architecture
from dcsnas.tasks.task import evaluate
from dcsnas.training.train import train
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set
from search_setup import small_search, write_search_inputs

SPACE = micro_space()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set and a finished, validated search in ``run``."""
    root = write_search_inputs(tmp_path_factory.mktemp("derived"))
    config = small_search(root, epochs=12, validate_every=12)
    search(config, RunFolder(root / "run"), allow_foreign=True, progress=False)
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> ArchitectureFile:
    """Return the most probable network."""
    return derive(folder / "run")


@pytest.fixture(scope="module")
def weights(folder: Path, found: ArchitectureFile) -> Path:
    """Return its weights from the supernet."""
    path = folder / "derived.safetensors"
    save_derived_weights(folder / "run", found, path)
    return path


def test_evaluate_scores_it_without_training(folder: Path, weights: Path) -> None:
    result = evaluate(weights, read_reid(folder / "data"), device="cpu", workers=0)
    assert 0 < result.retrieval.map < 1
    network, header, _ = load_reid_network(weights)
    assert header.architecture is not None
    assert header.architecture.network == derive(folder / "run").network
    assert read_header(weights).num_classes == 8
    assert not [n for n, t in network.state_dict().items() if not torch.isfinite(t).all()]


def test_the_command_writes_both_files(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, architecture = tmp_path / "w.safetensors", tmp_path / "a.yaml"
    derive_command(folder / "run", out=architecture, weights=path, data=folder / "data")
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{path}: untrained; next: dcsnas evaluate {path} --data DIR"
    )
    assert path.read_bytes() == weights.read_bytes()
    assert load_architecture(architecture) == derive(folder / "run")


def test_best_of_the_most_probable_is_the_one_that_scores_best(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ranked = derive_ranked(folder / "run", count=3)
    given = [{"map": score, "rank1": 100.0} for score in (20.0, 50.0, 30.0)]
    monkeypatch.setattr(derived_weights, "score_derived", lambda *_, **__: given)
    derive_command(folder / "run", best_of=3, out=tmp_path / "a.yaml")
    assert load_architecture(tmp_path / "a.yaml") == ranked[1]
    said = "number 2 of the 3 most probable: mAP 50.0 % with the supernet's weights"
    assert f"{said}; the first has 20.0 %" in capsys.readouterr().out.splitlines()


def test_it_has_the_score_of_the_search(folder: Path, weights: Path) -> None:
    """The last validation of the search is of the same network with the same statistics."""
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    (scored,) = score_derived(folder / "run", [derive(folder / "run")])
    score = pytest.approx(last["validation/map"], rel=1e-6)  # the log is of single precision
    assert scored["map"] == score
    network, header, _ = load_reid_network(weights)
    known, held_out = split_train(read_reid(folder / "data").train, fraction=0.8, seed=0)
    arguments: dict[str, Any] = {"size": header.input, "mean": header.mean, "std": header.std}
    extractor = Extractor(network, device=torch.device("cpu"), workers=0, **arguments)
    query = extractor.embed(held_out, lambda images: None)
    gallery = extractor.embed([*held_out, *known], lambda images: None)
    assert 100 * evaluate_retrieval(query, gallery).map == score


def test_all_but_the_statistics_are_slices_of_the_supernet(folder: Path, weights: Path) -> None:
    supernet, own = read_state(folder / "run" / "supernet.safetensors"), read_state(weights)
    for name, tensor in own.items():
        source = supernet[name.removeprefix("backbone.")]
        part = source[tuple(slice(n) for n in tensor.shape)]
        if "running" in name or "num_batches" in name:
            continue
        assert torch.equal(tensor, part), name
    means = [n for n in own if n.startswith("backbone") and n.endswith("running_mean")]
    assert any(
        not torch.equal(own[n], supernet[n.removeprefix("backbone.")][: len(own[n])]) for n in means
    )


def test_data_that_moved_can_be_given_and_other_data_is_refused(
    folder: Path, found: ArchitectureFile, weights: Path, tmp_path: Path
) -> None:
    moved = write_reid_set(tmp_path / "moved")
    save_derived_weights(folder / "run", found, tmp_path / "w.safetensors", data_root=moved)
    again, first = read_state(tmp_path / "w.safetensors"), read_state(weights)
    assert all(torch.equal(again[n], first[n]) for n in first)
    other = write_reid_set(tmp_path / "other", identities=5)
    with pytest.raises(UserError, match=r"other: not the training images of the search"):
        save_derived_weights(folder / "run", found, tmp_path / "x.safetensors", data_root=other)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_supernet_without_a_neck_is_refused(
    folder: Path, found: ArchitectureFile, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.yaml", "space.yaml"):
        (old / name).write_bytes((folder / "run" / name).read_bytes())
    supernet = folder / "run" / "supernet.safetensors"
    state = {n: t for n, t in read_state(supernet).items() if not n.startswith("neck.")}
    save_weights(old / "supernet.safetensors", state, read_header(supernet))
    with pytest.raises(UserError, match=r"holds no neck, as those of older versions"):
        save_derived_weights(old, found, tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", ["none", "sa"])
def test_a_chosen_kind_is_retrained_from_the_supernet(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    space = micro_space(attention={"kind": ["none", "sa", "dcs"]})
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space.file.model_dump(mode="json")))
    table = save_table(tmp_path / "table.json", fake_table(space).file)
    files = {"space": str(tmp_path / "space.yaml"), "table": str(tmp_path / "table.json")}
    run = RunFolder(tmp_path / "run")
    search(small_search(folder, epochs=2, **files), run, allow_foreign=True, progress=False)
    choice = {d.label: d.options[0] for d in space.decisions} | {"a0_kind": kind}
    save_architecture(
        tmp_path / "architecture.yaml", architecture_of(space, choice, table=table, seed=0)
    )
    found = load_architecture(tmp_path / "architecture.yaml")
    content = {
        "data": {"root": str(folder / "data"), "workers": 0}, "epochs": 2,
        "batch": {"identities": 4, "images": 2}, "augment": {"pad": 1}, "loss": {"ib_size": [4, 2]},
    }  # fmt: skip
    done = train(
        validate(RetrainConfig, content, "test"), found, RunFolder(tmp_path / "retrained"),
        stage="retrain", start=run.path / "supernet.safetensors", progress=False,
    )  # fmt: skip
    assert done.inherited is not None
    assert not done.inherited.left
    attends = [name for name in read_state(done.weights) if "layers.3." in name]
    assert bool(attends) == (kind != "none")
    save_derived_weights(run.path, found, tmp_path / "derived.safetensors")
    result = evaluate(
        tmp_path / "derived.safetensors", read_reid(folder / "data"), device="cpu", workers=0
    )
    assert result.counts["query"] == 16
