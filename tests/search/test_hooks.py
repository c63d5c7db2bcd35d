"""Every hook of a training step reaches the evaluator's module, whichever Lightning calls."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks

from dcsnas.config.runs import RunFolder
from dcsnas.search.loop import FBNetV2Module, SearchModule
from dcsnas.search.run import search
from search_setup import small_search, write_search_inputs

ELSEWHERE = {
    # there is no such loop in a search
    *(f"on_{loop}{when}" for loop in ("validation", "test", "predict")
      for when in ("_start", "_end", "_epoch_start", "_epoch_end", "_batch_start", "_batch_end",
                   "_model_eval", "_model_train", "_model_zero_grad")),
    # a data module's, which a search has
    "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer",
    "prepare_data", "setup", "teardown", "state_dict", "load_state_dict", "on_exception",
    "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader",
    # before there is anything to train
    "configure_model", "configure_sharded_model",
    # called with automatic optimisation alone
    "on_before_zero_grad",
}  # fmt: skip


def test_no_hook_ends_at_the_module_between() -> None:
    hooks = {
        name
        for kind in (ModelHooks, DataHooks, CheckpointHooks)
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    defined_by_lightning = {
        name for name in hooks if "pytorch_lightning" in getattr(FBNetV2Module, name).__module__
    }
    assert defined_by_lightning <= ELSEWHERE


def test_hooks_are_called_on_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    names = ("on_before_optimizer_step", "on_save_checkpoint", "on_before_backward")
    for name in names:
        original = getattr(SearchModule, name)

        def watched(
            self: SearchModule, *args: Any, _name: str = name, _hook: Any = original
        ) -> Any:
            called.append(_name)
            return _hook(self, *args)

        monkeypatch.setattr(SearchModule, name, watched)
    folder = write_search_inputs(tmp_path)
    config = small_search(folder, epochs=2)
    search(config, RunFolder(tmp_path / "out"), allow_foreign=True, progress=False)
    assert set(called) == set(names)
