"""Every mistake ends with exit code 2 and one message that says what to do, and leaves nothing.

Here those of a command line and its configuration.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Fails = Callable[..., str]


def test_unknown_key_is_named_with_a_suggestion(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "objective.wieght=1")
    assert message == (
        "error: --set objective.wieght=1: objective.wieght: unknown key; did you mean 'weight'?\n"
    )


def test_every_mistake_of_a_file_is_told_at_once(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "epochs=0", "--set", "split=2")
    assert "--set epochs=0: epochs: Input should be greater than 0 (given: 0)" in message
    assert "--set split=2: split: Input should be less than 1 (given: 2)" in message


def test_override_that_is_no_pair(fails: Fails) -> None:
    assert "--set epochs: expected key.path=value" in fails(
        "search", "search.yaml", "--set", "epochs"
    )


def test_plugin_that_does_not_import(
    fails: Fails, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    message = fails("--plugin", "no.such.module", "spaces")
    assert message.startswith("error: --plugin no.such.module: cannot be imported (ModuleNotFound")
    (work / "broken.py").write_text("def")
    message = fails("--plugin", "broken", "spaces")
    assert message.startswith("error: --plugin broken: cannot be imported (SyntaxError: ")
    assert message.count("\n") == 1


def test_backend_that_there_is_not(fails: Fails) -> None:
    message = fails("profile", "space.yaml", "--backend", "tensorrt")
    assert "backend 'tensorrt' is none of eager, channels_last, compile, onnxruntime, " in message
    assert fails("profile", "space.yaml", "--backend", "tensorrt", "--device", "cpu") == message


def test_missing_configuration(fails: Fails) -> None:
    assert "nowhere.yaml: no such file" in fails("search", "nowhere.yaml")


def test_unknown_space(fails: Fails) -> None:
    message = fails("spaces", "fbnetv9")
    assert "no search space called 'fbnetv9'; shipped: " in message
    assert ", fbnetv2, " in message


def test_more_identities_asked_for_than_there_are(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--allow-foreign", "--set", "batch.identities=99")
    assert message == (
        "error: batch.identities is 99, but in the weights' part (split 0.8) of the training images"
        " in people there are 4 identities; set it to at most 4\n"
    )


def test_more_identities_asked_for_than_train_the_architecture(fails: Fails, work: Path) -> None:
    _, *others = sorted((work / "people" / "bounding_box_train").glob("0001_*"))
    for path in others:
        path.unlink()
    message = fails("search", "search.yaml", "--allow-foreign", "--set", "batch.identities=4")
    assert message == (
        "error: batch.identities is 4, but in the architecture's part (split 0.8) of the training"
        " images in people there are 3 identities; set it to at most 3\n"
    )


def test_input_size_that_is_no_size(fails: Fails) -> None:
    assert "--input 64: expected HEIGHTxWIDTH" in fails("profile", "tiny", "--input", "64")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "command",
    [
        ["profile", "space.yaml", "--device", "cuda"],
        ["search", "search.yaml", "--allow-foreign", "--set", "run.device=cuda"],
        ["retrain", "retrain.yaml", "--arch", "small.yaml", "--set", "run.device=cuda"],
    ],
    ids=["profile", "search", "retrain"],
)
def test_cuda_where_there_is_none(fails: Fails, command: list[str]) -> None:
    message = fails(*command)
    assert "cuda" in message
    assert "CUDA device here; use" in message


def test_run_that_would_train_nothing(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "architecture.warmup_epochs=1")
    assert "architecture.warmup_epochs is 1 of 1 epochs, so the architecture would never" in message
    message = fails(
        "retrain", "retrain.yaml", "--arch", "small.yaml", "--set", "classifier_epochs=1"
    )
    assert "classifier_epochs is 1 of 1 epochs, so the backbone would never be trained" in message


def test_mixup_is_no_part_of_a_search(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "augment.mixup=0.5")
    assert "augment.mixup: unknown key" in message


def test_run_folder_that_is_a_file(fails: Fails) -> None:
    message = fails("retrain", "retrain.yaml", "--arch", "small.yaml", "--out", "space.yaml")
    assert "space.yaml: is a file; a run needs a folder" in message


def test_file_that_is_a_folder(fails: Fails) -> None:
    assert "people: is a folder; give the path of a file" in fails(
        "derive", "people", "--out", "people"
    )


def test_derive_needs_a_search(fails: Fails, work: Path) -> None:
    (work / "retrained").mkdir()
    (work / "retrained" / "config.yaml").write_text("stage: retrain\n")
    assert "retrained: holds a retrain run; give the run folder of dcsnas search" in fails(
        "derive", "retrained"
    )
    assert "people: not a run folder" in fails("derive", "people")


def test_value_that_looks_like_a_date(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--set", "run.seed=2020-13-45")
    assert "--set run.seed=2020-13-45: run.seed: Input should be a valid integer" in message


def test_unknown_shipped_configuration(fails: Fails) -> None:
    message = fails("search", "search_huge")
    assert "no configuration called 'search_huge'; shipped: " in message
    assert "search_fbnetv2" in message


def test_path_with_a_hash_is_taken_as_it_is(fails: Fails) -> None:
    message = fails("search", "search.yaml", "--allow-foreign", "--data", "people #2")
    assert "people #2" in message
