"""Algorithm 1 of 2022: weights on one part of the images, windows on the other, no choices."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from dcsnas.config.runs import RunFolder
from dcsnas.latency.table import save_table
from dcsnas.search.derive import read_probabilities
from dcsnas.search.loop import FBNetV2Module
from dcsnas.search.run import search
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set
from search_setup import small_search

WINDOWS = {"per": "token", "windows": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a space of one network, its table and a data set."""
    space = micro_space(
        attention={"kind": "dcs_window", "arguments": {"dcs_window": WINDOWS}},
        rows=[
            {"op": "block", "expansion": 1, "width": 4},
            {"op": "block", "expansion": 3, "width": 8, "stride": 2},
            {"op": "attention"},
        ],
    )
    assert not space.decisions
    write_reid_set(tmp_path / "data")
    save_table(tmp_path / "table.json", fake_table(space).file)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space.file.model_dump(mode="json")))
    return tmp_path


class Changes:
    """Says after every step of a search which tensors of its network have changed."""

    def __init__(self) -> None:
        self.seen: dict[str, set[str]] = {"train": set(), "val": set()}

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        step = FBNetV2Module.training_step

        def watched(module: FBNetV2Module, batch: dict[str, Any], batch_idx: int) -> Any:
            before = _parameters(module)
            result = step(module, batch, batch_idx)
            (phase,) = batch
            after = _parameters(module)
            self.seen[phase] |= {n for n, p in before.items() if not torch.equal(p, after[n])}
            return result

        monkeypatch.setattr(FBNetV2Module, "training_step", watched)


def _parameters(module: FBNetV2Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.training_module.named_parameters()}


def test_weights_and_windows_are_trained_in_turns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes()
    changes.watch(monkeypatch)
    config = small_search(folder, objective={"form": "add", "weight": 0})
    result = search(config, RunFolder(folder / "run"), allow_foreign=True, progress=False)
    windows = {name for name in changes.seen["val"] if "dcs_window" in name}
    assert windows == changes.seen["val"]
    assert {name.rpartition("masking.")[2] for name in windows} == {"logits", "linear.weight"}
    assert changes.seen["train"]
    assert not changes.seen["train"] & windows
    assert any("depthwise" in name for name in changes.seen["train"])
    assert result.entropy is None
    assert result.initial_latency_ms == result.final_latency_ms
    assert all(set(record) <= {"epoch"} for record in read_probabilities(folder / "run"))


def test_a_search_of_windows_that_was_stopped_ends_the_same(folder: Path) -> None:
    class Stopped(Exception):
        """The search is stopped here."""

    from pytorch_lightning.callbacks import Callback

    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise Stopped

    config = small_search(folder, objective={"form": "add", "weight": 0})
    search(config, RunFolder(folder / "whole"), allow_foreign=True, progress=False)
    with pytest.raises(Stopped):
        search(
            config,
            RunFolder(folder / "parts"),
            allow_foreign=True,
            progress=False,
            callbacks=[Stop()],
        )
    search(config, RunFolder(folder / "parts"), allow_foreign=True, progress=False)
    whole, parts = (load_file(folder / run / "supernet.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
