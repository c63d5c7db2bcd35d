"""Training, searching and scoring a detector by its commands."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run_here
from safetensors.torch import load_file

from dcsnas.cli.main import run
from dcsnas.config.errors import UserError
from dcsnas.config.files import read_json, read_yaml
from dcsnas.config.jsonl import read_records
from dcsnas.config.stages import DataConfig
from dcsnas.nn.build import build
from dcsnas.nn.weights import header_of, save_weights
from dcsnas.plots.run import plot_run
from dcsnas.reports.run_records import read_run
from dcsnas.spaces.architecture import save_architecture
from detection_setup import content, needs_torchvision, network, write_config, write_set

TRAIN = ("detect", "train", "c.yaml", "--arch", "plain.yaml")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a set, two networks and a configuration, to copy."""
    folder = tmp_path_factory.mktemp("detection")
    for split in ("train", "val"):
        write_set(folder / "coco", content(), split)
    save_architecture(folder / "plain.yaml", network())
    save_architecture(folder / "dcs.yaml", network("dcs"))
    write_config(folder / "c.yaml", Path("coco"))
    return folder


@pytest.fixture
def work(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(base, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fails(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., str]:
    """Return what runs a command that must end with one message and exit code 2."""

    def fail(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        return message

    return fail


def test_train_evaluate_and_show(work: Path) -> None:
    needs_torchvision()
    shown = run_here(work, *TRAIN, "--out", "run", "--set", "validate_every=2")
    assert "next: dcsnas detect evaluate run/detector.safetensors --data coco" in shown
    records = read_records(work / "run/metrics.jsonl")
    assert [record["epoch"] for record in records] == [1, 2]
    assert {"loss", "mask", "box_2", "object"} <= records[0].keys()
    assert 0 <= records[1]["validation/box_ap50"] <= 100
    shown = run_here(work, "detect", "evaluate", "run", "--data", "coco", "--workers", "0")
    assert "AP50 triangle" in shown
    assert "times the reference" in shown
    metrics = read_json(work / "run/metrics.json")
    assert metrics["box_ap50"] == pytest.approx(records[1]["validation/box_ap50"])
    assert metrics["protocol"]["images"] == 3
    assert metrics["latency"]["measured_ms"] > 0
    run_here(work, "detect", "show", "run", "coco/train/a.png", "--out", "seen")
    assert (work / "seen/a.png").stat().st_size > 100
    listed = read_run(work / "run")
    assert (listed.stage, listed.state, listed.done) == ("detect-train", "finished", 2)
    assert (listed.metric, listed.score) == ("box_ap50", metrics["box_ap50"])
    assert {path.stem for path in plot_run(work / "run")} == {"curves", "architecture"}


def test_a_stopped_run_goes_on_to_the_same_weights(work: Path) -> None:
    needs_torchvision()
    run_here(work, *TRAIN, "--out", "whole")
    folder, kept = work / "stopped", work / "kept"
    with pytest.MonkeyPatch.context() as patch:
        from dcsnas.detection.train import DetectModule

        plain = DetectModule.training_step

        def stop(self: Any, batch: Any, index: int) -> Any:
            if self.current_epoch == 1:
                raise RuntimeError("killed")
            return plain(self, batch, index)

        patch.setattr(DetectModule, "training_step", stop)
        patch.setattr("sys.argv", ["dcsnas", *TRAIN, "--out", "stopped"])
        with pytest.raises(RuntimeError, match="killed"):
            run()
    shutil.copytree(folder, kept)
    run_here(work, *TRAIN, "--out", "stopped")
    a, b = (load_file(work / name / "detector.safetensors") for name in ("whole", "stopped"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_search_moves_the_selection_and_training_can_hold_it(work: Path) -> None:
    needs_torchvision()
    arguments = ("detect", "search", "c.yaml", "--arch", "dcs.yaml", "--out", "found")
    run_here(work, *arguments, "--set", "search.share=0.67", "--set", "epochs=1")
    record = read_records(work / "found/metrics.jsonl")[0]
    assert {"weights/loss", "attention/loss"} <= record.keys()
    train = ("detect", "train", "c.yaml", "--arch", "dcs.yaml", "--from", "found", "--out", "net")
    run_here(work, *train, "--set", "hold_selection=true", "--set", "epochs=1")
    assert read_yaml(work / "net/config.yaml")["hold_selection"] is True
    before, after = (load_file(work / n / "detector.safetensors") for n in ("found", "net"))
    theta = [name for name in before if ".theta." in name]
    assert theta
    assert all(torch.equal(before[name], after[name]) for name in theta)
    others = [name for name in before if "heads.stages.0" in name]
    assert not any(torch.equal(before[name], after[name]) for name in others)


def test_a_pretrained_backbone_is_taken_and_attention_starts_fresh(work: Path) -> None:
    needs_torchvision()
    from dcsnas.config.detection import DetectorConfig
    from dcsnas.detection.detector import build_detector
    from dcsnas.detection.weights import start_from
    from detection_setup import DETECTOR

    plain = network()
    backbone = build(plain.network)
    data = DataConfig(root=Path("x"))
    header = header_of("pretrain", plain, data, (64, 64), 10, task="classify")
    save_weights(Path("b.safetensors"), backbone.state_dict(), header)
    model = build_detector(plain, DetectorConfig.model_validate(DETECTOR), 3)
    start_from(model.pyramid.backbone, Path("b.safetensors"))
    for name, tensor in model.pyramid.backbone.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name])


def test_a_header_of_another_network_is_refused_before_it_is_built(tmp_path: Path) -> None:
    """Such widths would take more memory than there is."""
    needs_torchvision()
    from dcsnas.detection.weights import load_detector
    from fuzz.detection_readers import READERS

    path = READERS["detector"].prepare(tmp_path)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    told = json.loads(header["__metadata__"]["dcsnas_detector"])
    told["detector"]["channels"] = told["detector"]["box_features"] = 2**16
    header["__metadata__"]["dcsnas_detector"] = json.dumps(told)
    text = json.dumps(header).encode()
    tensors = path.read_bytes()[8 + size :]
    path.write_bytes(len(text).to_bytes(8, "little") + text + tensors)
    with pytest.raises(UserError, match="its weights do not fit its header; give another"):
        load_detector(path)


def test_dry_run_shows_the_configuration(work: Path) -> None:
    assert "hold_selection: false" in run_here(work, *TRAIN, "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "detector.chanels=3"), "detector.chanels: unknown key; did you mean 'channels'"),
        (("--set", "augment.scale=[2, 1]"), "give the least value first"),
        (("--set", "data.train=trian"), "no such file; there are train, val"),
        (("--from", "plain.yaml"), "plain.yaml: not a safetensors file"),
        (("--arch", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_a_mistake_ends_with_one_message(fails: Any, arguments: tuple, expected: str) -> None:
    needs_torchvision()
    assert expected in fails(*TRAIN, "--out", "run", *arguments)
    assert not Path("run/config.yaml").exists()


def test_a_search_without_attention_is_refused(fails: Any) -> None:
    needs_torchvision()
    message = fails("detect", "search", "c.yaml", "--arch", "plain.yaml", "--out", "run")
    assert "no attention that selects channels" in message


def test_weights_that_are_no_detector_are_refused(fails: Any) -> None:
    Path("x.safetensors").write_bytes(b"no")
    message = fails("detect", "evaluate", "x.safetensors", "--data", "coco")
    assert "x.safetensors: not a safetensors file, or truncated" in message


def test_a_set_of_other_categories_is_refused(work: Path, fails: Any) -> None:
    needs_torchvision()
    run_here(work, *TRAIN, "--out", "run", "--set", "epochs=1")
    changed = content()
    changed["categories"][0]["name"] = "oblong"
    write_set(Path("coco"), changed, "val")
    message = fails("detect", "evaluate", "run", "--data", "coco")
    assert "has the categories triangle, oblong; the detector knows triangle, square" in message
