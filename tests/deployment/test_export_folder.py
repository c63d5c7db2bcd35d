"""A folder to deploy: what int8 computes, what the program gives, what the card says."""

import copy
import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dcsnas as dn
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, write_yaml
from dcsnas.config.stages import DataConfig
from dcsnas.data.images import GivenImages
from dcsnas.data.reid import read_reid
from dcsnas.deployment import folder as folders
from dcsnas.deployment.embedding import Embedder, find_images
from dcsnas.deployment.export import exportable, onnx_model
from dcsnas.deployment.folder import export_folder
from dcsnas.deployment.model_card import model_card
from dcsnas.deployment.model_latency import Times
from dcsnas.deployment.quantise import BACKBONE, _divide_hard_swish, quantise
from dcsnas.deployment.scoring import batches, read_for, score_models
from dcsnas.evaluation.features import Extractor
from dcsnas.nn.heads import LinearHead
from dcsnas.nn.weights import load_network, read_header, read_state, save_weights
from dcsnas.tasks.task import evaluate
from deployment_setup import Networks, write_pictures
from latency_fakes import CONDITIONS, micro_space
from reid_data import write_class_folder

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FILES = ["README.md", "deploy.json", "model.int8.onnx", "model.onnx", "run.py"]
ALONE = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
found = runpy.run_path(sys.argv[0])["found"]
import numpy
numpy.save("found.npy", found)
for name in ("torch", "dcsnas", "onnx"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} is there")
"""
VERDICT = {
    "state": "quiet", "speed_percent": 1.0, "interrupted_percent": 0.0, "halves_percent": 0.5,
}  # fmt: skip


def no_bar(title: str) -> Any:
    return nullcontext(lambda done, total: None)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have both models take 2 and 1 ms, without the processes that measure it."""
    record = {
        "reference_ms": 3.0, "verdict": VERDICT, "conditions": CONDITIONS.model_dump(mode="json"),
    }  # fmt: skip
    times = Times([2.0, 1.0], record)
    monkeypatch.setattr(folders, "measure_models", lambda paths, size, **options: times)


@pytest.fixture
def classifier(tmp_path: Path, networks: Networks) -> Path:
    """Return weights of a network of three classes that sees the centre of an image."""
    people = networks.save("people.safetensors", micro_space())
    update = {"task": "classify", "num_classes": 3, "crop": 0.8, "classes": ("ant", "bee", "cow")}
    header = read_header(people).model_copy(update=update)
    state = {k: v for k, v in read_state(people).items() if not k.startswith("neck.")}
    head = LinearHead(8, 3)
    torch.nn.init.normal_(head.weight, std=2.0)
    state |= {f"neck.{name}": tensor for name, tensor in head.state_dict().items()}
    path = tmp_path / "classifier" / "model.safetensors"
    path.parent.mkdir()
    save_weights(path, state, header)
    return path


def write_animals(tmp_path: Path) -> Path:
    root = write_class_folder(tmp_path / "animals")
    for split in ("train", "val"):
        for old, new in zip(("class0", "class1", "class2"), ("ant", "bee", "cow"), strict=True):
            (root / split / old).rename(root / split / new)
    return root


@pytest.fixture(scope="module")
def only_what_it_needs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of packages that holds onnxruntime, numpy and Pillow alone."""
    folder = tmp_path_factory.mktemp("packages")
    for module in (np, onnxruntime, __import__("PIL")):
        package = Path(str(module.__file__)).parent
        for part in (package, package.with_name(f"{package.name}.libs"),
                     package.with_name("pillow.libs")):  # fmt: skip
            if part.exists() and not (folder / part.name).exists():
                (folder / part.name).symlink_to(part)
    return folder


def run_alone(out: Path, packages: Path, *arguments: str | Path) -> tuple[np.ndarray, str]:
    """Run ``run.py`` of ``out`` where there is nothing else, and return its output."""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", ALONE, packages, "run.py"]
    done = subprocess.run(
        [*command, *arguments], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return np.load(out / "found.npy"), done.stdout


@pytest.mark.usefixtures("timed")
def test_the_program_gives_the_features_of_the_package(
    weights: Path, people: Path, tmp_path: Path, only_what_it_needs: Path
) -> None:
    out = tmp_path / "deploy"
    deployed = export_folder(weights, out, data=people, bar=no_bar)
    assert sorted(path.name for path in out.iterdir()) == FILES
    files = [*write_pictures(tmp_path), *find_images([people / "query"])]
    expected = Embedder(weights, device="cpu").embed(files)
    found, printed = run_alone(out, only_what_it_needs, *files)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert printed.strip() == str(found @ found.T)
    small, _ = run_alone(out, only_what_it_needs, *files, "--model", "model.int8.onnx")
    given = GivenImages(files, (16, 8))
    images = np.stack([given.pixels(index).numpy() for index in range(len(files))])
    session = onnxruntime.InferenceSession(out / "model.int8.onnx")
    np.testing.assert_allclose(small, session.run(None, {"images": images})[0], atol=1e-6)
    assert 0.9 < (small * expected).sum(axis=1).mean() < 0.9999
    assert deployed.ratio == 2.0
    lines = (out / "run.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 62


@pytest.mark.usefixtures("timed")
def test_a_classifier_gives_probabilities_of_the_centre(
    classifier: Path, tmp_path: Path, only_what_it_needs: Path
) -> None:
    animals = write_animals(tmp_path)
    out = tmp_path / "deploy"
    deployed = export_folder(classifier, out, data=animals, bar=no_bar)
    used = load_network(classifier, LinearHead)
    data = read_for(used.header, DataConfig(root=animals))
    logits, labels = Extractor.of(used, device="cpu", workers=0).logits(data.probes)
    files = [sample.path for sample in data.probes] + write_pictures(tmp_path)
    found, printed = run_alone(out, only_what_it_needs, *files)
    np.testing.assert_allclose(found[: len(labels)], logits.softmax(1), atol=1e-5)
    first = printed.splitlines()[0]
    best = ("ant", "bee", "cow")[int(found[0].argmax())]
    assert first.startswith(f"{files[0]}: {best} {100 * found[0].max():.1f} %, ")
    accuracy = 100 * float((logits.argmax(1) == labels).double().mean())
    assert deployed.scored.scores["model.onnx"]["accuracy"] == pytest.approx(accuracy)
    card = (out / "README.md").read_text()
    assert "accuracy (%) | same answers" in card
    assert "24 training images of 3 classes" in card


def test_the_backbone_alone_is_in_eight_bits(weights: Path, people: Path) -> None:
    used = exportable(weights)
    full, _ = onnx_model(used, Path("model.onnx"))
    data = read_reid(people)
    small = quantise(full, batches(data.train, used.header))
    graph = onnx.load_from_string(small).graph
    before = onnx.load_from_string(full).graph
    made_by = {output: node for node in graph.node for output in node.output}
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == [node.op_type for node in before.node].count("Conv") > 5
    values = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    float_weights = {one.name: onnx.numpy_helper.to_array(one) for one in before.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for node in convolutions:
        assert all(made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
        weight, scale, zero = (values[name] for name in made_by[node.input[1]].input)
        assert (weight.dtype, scale.shape) == (np.int8, (len(weight),))
        assert np.abs(weight).max() <= 64, "seven bits, so that pairs of products fit in 16"
        assert not zero.any()
        name = made_by[node.input[1]].input[0].removesuffix("_quantized")
        if name in float_weights:
            error = np.abs(weight * scale.reshape(-1, 1, 1, 1) - float_weights[name])
            assert (error.reshape(len(weight), -1).max(1) <= 0.501 * scale).all()
    around = [node for node in graph.node if node.op_type == "ReduceL2" or
              node.op_type == "BatchNormalization"]  # fmt: skip
    assert len(around) == 2
    for node in around:
        assert not node.name.startswith(BACKBONE)
        assert not [i for i in node.input if i in made_by and "Quantize" in made_by[i].op_type]


def test_hard_swish_is_divided_without_a_difference(weights: Path) -> None:
    used = exportable(weights)
    full, _ = onnx_model(used, Path("model.onnx"))
    proto = onnx.load_from_string(full)
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("HardSwish") > 3
    _divide_hard_swish(proto.graph)
    onnx.checker.check_model(proto)
    assert "HardSwish" not in [node.op_type for node in proto.graph.node]
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 8), dtype=np.uint8)
    outputs = [
        onnxruntime.InferenceSession(model).run(None, {"images": images})[0]
        for model in (full, proto.SerializeToString())
    ]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_any_batch_size_runs(weights: Path, people: Path) -> None:
    used = exportable(weights)
    full, _ = onnx_model(used, Path("model.onnx"))
    small = quantise(full, batches(read_reid(people).train, used.header))
    session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 8), dtype=np.uint8)
    (together,) = session.run(None, {"images": images})
    for index in range(5):
        (alone,) = session.run(None, {"images": images[index : index + 1]})
        np.testing.assert_allclose(alone[0], together[index], atol=1e-6)


def test_scores_are_those_of_evaluate(weights: Path, people: Path) -> None:
    used = exportable(weights)
    full, _ = onnx_model(used, Path("model.onnx"))
    broken = onnx_model(used._replace(network=_shuffled(used.network)), Path("x"))[0]
    data = read_reid(people)
    scored = score_models({"full": full, "broken": broken}, used.header, data)
    report = evaluate(weights, data, device="cpu", workers=0)
    for name, value in report.percentages().items():
        assert scored.scores["full"][name] == pytest.approx(value, abs=1e-3)
    assert scored.nearness["full"] == pytest.approx(1, abs=1e-6)
    assert scored.nearness["broken"] < 0.95
    assert scored.lost("broken") == pytest.approx(
        scored.scores["full"]["map"] - scored.scores["broken"]["map"]
    )


def _shuffled(network: torch.nn.Module) -> Any:
    """Return a copy with the weights of another network."""
    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(5)
    for parameter in other.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.std()
    return other


def test_the_command_takes_the_data_set_of_the_training(
    weights: Path,
    people: Path,
    tmp_path: Path,
    timed: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dcsnas.cli.main import run

    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dcsnas", "export", str(weights), *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out + captured.err

    code, said = command("--format", "folder", "--workers", "0")
    assert code == 2
    assert "there is no config.yaml beside it" in said
    assert "give its folder as --data" in said
    assert not weights.with_name("deploy").exists()
    write_yaml(weights.with_name("config.yaml"), {
        "stage": "retrain", "data": {"root": str(people)}, "epochs": 3, "inputs": {"start": "ab"},
    })  # fmt: skip
    code, said = command("--format", "folder", "--workers", "0", "--out", "there")
    assert code == 0, said
    record = read_json(tmp_path / "there" / "deploy.json")
    full, small = record["models"]["model.onnx"], record["models"]["model.int8.onnx"]
    assert f"model.onnx: {full['bytes'] / 1e6:.1f} MB, 2.00 ms; map " in said
    lost = full["scores"]["map"] - small["scores"]["map"]
    assert f"int8: {lost:+.2f} points of map lost, 2.00 times as fast (quiet: " in said
    assert ("take model.onnx" in said) == (lost > 1)
    card = (tmp_path / "there" / "README.md").read_text()
    assert "epochs: 3" in card
    assert "begun from weights of digest ab" in card
    assert str(people) not in card
    assert record["calibration"]["images"] == 40
    code, said = command("--format", "folder", "--workers", "0", "--out", "there")
    assert code == 2
    assert "there: holds model.onnx, model.int8.onnx, run.py, README.md, deploy.json" in said
    code, said = command("--data", str(people))
    assert code == 2
    assert "--data: only --format folder measures on a data set" in said


def test_a_session_writes_the_same_folder(
    weights: Path, people: Path, tmp_path: Path, timed: None
) -> None:
    trained = dn.load_weights(weights)
    deployed = trained.deploy(tmp_path / "a", data=people)
    export_folder(weights, tmp_path / "b", data=people, bar=no_bar)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert deployed.path == tmp_path / "a"


def test_tasks_without_an_export_are_refused(weights: Path, tmp_path: Path) -> None:
    header = read_header(weights).model_copy(update={"task": "weather"})
    save_weights(tmp_path / "x.safetensors", read_state(weights), header)
    with pytest.raises(UserError, match=r"task 'weather', of which .* of task reid or classify"):
        export_folder(tmp_path / "x.safetensors", tmp_path / "out", bar=no_bar)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("timed")
def test_the_card_warns_of_what_int8_loses(weights: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    export_folder(weights, out, data=people, bar=no_bar)
    record = read_json(out / "deploy.json")
    for full, small, ms, warnings in ((80.0, 79.5, 1.0, []), (80.0, 78.5, 1.0, ["more than a po"]),
                                      (80.0, 81.0, 4.0, ["slower"])):  # fmt: skip
        changed = json.loads(json.dumps(record))
        for name, score in (("model.onnx", full), ("model.int8.onnx", small)):
            changed["models"][name]["scores"]["map"] = score
        changed["latency"]["int8_times_as_fast"] = 2.0 / ms
        card = model_card(changed, None)
        assert (
            f"| `model.int8.onnx` | {record['models']['model.int8.onnx']['bytes'] / 1e6:.1f} "
            in (card)
        )
        side = "below" if full >= small else "above"
        assert f"mAP is {abs(full - small):.1f} points {side} it" in card
        found = [word for word in ("more than a po", "slower") if word in card]
        assert found == warnings
        assert "no configuration lay beside the weights" in card
    assert re.search(r"`people`: 40 training images of 8 people; scores on 16 queries", card)


@pytest.mark.slow
def test_times_are_measured_in_turns(weights: Path, people: Path, tmp_path: Path) -> None:
    deployed = export_folder(weights, tmp_path / "deploy", data=people, bar=no_bar)
    conditions = deployed.times.record["conditions"]
    assert (conditions["backend"], conditions["batch"], conditions["input"]) == (
        "onnxruntime", 1, [16, 8]
    )  # fmt: skip
    assert all(0.005 < ms < 5 for ms in deployed.times.ms)
    assert conditions["backend_version"] == onnxruntime.__version__
