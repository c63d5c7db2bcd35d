"""What a training starts from: the statistics of slices, and people that it already knows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from dcsnas.config.errors import UserError
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import PretrainConfig, RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.config.tuning import TuneEtaConfig
from dcsnas.data.reid import read_reid, samples_digest
from dcsnas.nn.build import build
from dcsnas.nn.distributed import cpu_threads
from dcsnas.nn.weights import WeightsHeader, read_header, save_weights
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.training.batchnorm_statistics import measure_statistics
from dcsnas.training.module import TaskModule
from dcsnas.training.train import Trained, train
from dcsnas.training.tuning import tune_eta
from latency_fakes import fake_table, micro_space
from reid_data import SIZE, write_class_folder, write_reid_set

SPACE = micro_space()
SMALL, LARGE = (
    architecture_of(SPACE, choose(SPACE), table=fake_table(SPACE), seed=0)
    for choose in (smallest_choice, largest_choice)
)
HELD_OUT = {"every": 1, "hold_out": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("first_weights")
    write_reid_set(root / "people", identities=8, images=6)
    write_class_folder(root / "classes")
    return root


def config_of(model: Any, folder: Path, data: str = "people", **changes: Any) -> Any:
    content = {
        "data": {"root": str(folder / data), "workers": 0},
        "epochs": 1,
        "augment": {"pad": 1},
        "run": {"threads": 1},
        **changes,
    }
    if content.get("task", "reid") == "reid" and model is not PretrainConfig:
        content |= {"batch": {"identities": 2, "images": 2}, "loss": {"ib_size": [4, 2]}}
    return validate(model, content, "test")


def supernet(path: Path, **header: Any) -> Path:
    """Write a supernet, whose BatchNorm statistics are of something else, and return its file."""
    torch.manual_seed(0)
    state = build(LARGE.network).state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var")):
            tensor.fill_(7.0)
    facts = {"stage": "search", "architecture": None, "space_digest": SPACE.digest}
    rest = {"num_classes": 8, "input": SIZE, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    save_weights(path, state, WeightsHeader(**{**facts, **rest, **header}))
    return path


def retrain(folder: Path, name: str, start: Path | None, **changes: Any) -> Trained:
    config = config_of(RetrainConfig, folder, **changes)
    run = RunFolder(folder / name)
    return train(config, SMALL, run, stage="retrain", start=start, progress=False)


def known(folder: Path) -> tuple[str]:
    return (samples_digest(read_reid(folder / "people").train),)


def test_a_head_that_trains_alone_sees_the_statistics_of_its_backbone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence 1: those of the supernet are of blends of widths."""
    seen: list[dict[str, Tensor]] = []
    step = TaskModule.step

    def watched(self: TaskModule, *arguments: Any) -> Tensor:
        backbone = self.network.backbone
        assert backbone.training == (self.current_epoch > 0)
        seen.append({name: tensor.clone() for name, tensor in backbone.state_dict().items()})
        return step(self, *arguments)

    monkeypatch.setattr(TaskModule, "step", watched)
    start = supernet(folder / "wrong.safetensors")
    retrain(folder, "head", start, epochs=2, classifier_epochs=1)
    expected = build(SMALL.network)
    report = expected.load_state_dict(
        {n: t for n, t in seen[0].items() if not n.endswith(("running_mean", "running_var"))},
        strict=False,
    )
    assert report.missing_keys
    config = config_of(RetrainConfig, folder)
    with cpu_threads(1):
        measure_statistics(
            expected, read_reid(folder / "people").train, SIZE, data=config.data,
            augment=config.augment, seed=0,
        )  # fmt: skip
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, seen[0][name]), name
    assert not any((t == 7).all() for n, t in seen[0].items() if n.endswith("running_mean"))


def test_a_short_training_keeps_nothing_of_a_supernets_statistics(folder: Path) -> None:
    """Sibling: where the backbone trains too, a share of 0.9 per step of them used to stay.

    Of a network without DCS, whose statistics are not measured again at the end.
    """
    space = SPACE.without_attention()
    plain = architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    state, config = build(plain.network).state_dict(), config_of(RetrainConfig, folder)
    files = []
    for value in (2.0, 7.0):
        for name in state:
            if name.endswith(("running_mean", "running_var")):
                state[name].fill_(value)
        start, run = folder / f"{value}.safetensors", RunFolder(folder / f"from{value}")
        header = read_header(supernet(folder / "any.safetensors"))
        header = header.model_copy(update={"space_digest": space.digest})
        save_weights(start, state, header)
        done = train(config, plain, run, stage="retrain", start=start, progress=False)
        files.append(done.weights.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("header", [{}, {"trained_on": True}], ids=["older file", "named"])
def test_held_out_people_that_a_supernet_knows_are_refused(
    folder: Path, header: dict[str, Any]
) -> None:
    """Evidence 2, validation.hold_out."""
    header = {"trained_on": known(folder)} if header else {}
    start = supernet(folder / "known.safetensors", **header)
    with pytest.raises(UserError, match=r"known\.safetensors: .* not be of unseen people; start"):
        retrain(folder, "leak", start, validation=HELD_OUT)
    assert not (folder / "leak").exists()
    retrain(folder, f"whole{len(header)}", start)  # where nobody is held out


def test_tuning_eta_from_a_supernet_that_knows_everybody_is_refused(folder: Path) -> None:
    """Evidence 2, tune-eta."""
    start = supernet(folder / "tuned.safetensors", trained_on=known(folder))
    config = config_of(TuneEtaConfig, folder, epochs=3, etas=[0, 1], folds=2)
    with pytest.raises(UserError, match="was trained on the identities that are to be held out"):
        tune_eta(config, SMALL, RunFolder(folder / "tuning"), start=start, progress=False)
    assert not (folder / "tuning").exists()


def test_weights_of_other_images_may_start_a_training_with_held_out_people(folder: Path) -> None:
    """A supernet of other people, and a backbone of another task."""
    other = supernet(folder / "other.safetensors", trained_on=("0" * 16,))
    retrain(folder, "other", other, validation=HELD_OUT)
    config = config_of(PretrainConfig, folder, "classes", batch_size=8)
    run = RunFolder(folder / "garments")
    backbone = train(config, SMALL, run, stage="pretrain", progress=False).weights
    done = retrain(folder, "from_garments", backbone, validation=HELD_OUT)
    assert done.chosen_epoch
    assert done.chosen_epoch.selected_on == "held-out identities"
    garments = read_header(backbone).trained_on
    assert read_header(done.weights).trained_on == (*garments, *known(folder))


def test_what_a_start_knows_is_passed_on(folder: Path) -> None:
    """Siblings: a backbone pretrained on the people, and one that started from what knew them."""
    people = config_of(RetrainConfig, folder)
    run = RunFolder(folder / "on_people")
    backbone = train(people, SMALL, run, stage="pretrain", progress=False).weights
    assert read_header(backbone).trained_on == known(folder)
    start = supernet(folder / "ancestor.safetensors", trained_on=known(folder))
    config = config_of(PretrainConfig, folder, "classes", batch_size=8)
    run = RunFolder(folder / "descendant")
    descendant = train(config, SMALL, run, stage="pretrain", start=start, progress=False).weights
    for weights in (backbone, descendant):
        with pytest.raises(UserError, match="trained on the identities that are to be held out"):
            retrain(folder, "leak", weights, validation=HELD_OUT)


def test_the_header_of_files_without_a_record_is_as_it_was(folder: Path) -> None:
    header = read_header(supernet(folder / "plain.safetensors"))
    assert header.trained_on == ()
    assert "trained_on" not in yaml.safe_load(header.model_dump_json())
