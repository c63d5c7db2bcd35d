"""The bound of a search is one object, ready from the third epoch on (evidence 6)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.losses.bound import InformationBound
from dcsnas.search.run import search
from search_setup import small_search, write_search_inputs

EPOCHS = 5
READY = [False, True, True, True, True]
"""In each epoch."""


class Watch(Callback):
    """Notes whether the bound that a step uses is ready, and what that step's IBB is."""

    def __init__(self, *, stop_in: int | None = None) -> None:
        self.stop_in = stop_in
        self.seen: list[tuple[int, bool, int]] = []
        """Epoch, whether it is ready, and which object it is, before each step."""

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        bound = pl_module.training_module.objective.bound
        self.seen.append((trainer.current_epoch, bool(bound.ready), id(bound)))
        if trainer.current_epoch == self.stop_in and batch_idx == 3:
            raise KeyboardInterrupt


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> list[InformationBound]:
    """Return the list of all bounds that are made from now on, copies included."""
    made: list[InformationBound] = []
    init, setstate = InformationBound.__init__, InformationBound.__setstate__

    def note(self: InformationBound, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        made.append(self)

    def note_copy(self: InformationBound, state: dict[str, Any]) -> None:
        setstate(self, state)
        made.append(self)

    monkeypatch.setattr(InformationBound, "__init__", note)
    monkeypatch.setattr(InformationBound, "__setstate__", note_copy)
    return made


@pytest.mark.parametrize("stopped_in", [None, 1, 2, 3])
def test_it_is_ready_where_its_loss_is_logged(
    stopped_in: int | None, tmp_path: Path, bounds: list[InformationBound]
) -> None:
    config = small_search(write_search_inputs(tmp_path), epochs=EPOCHS, validate_every=2)
    folder = RunFolder(tmp_path / "run")
    options = {"allow_foreign": True, "progress": False}
    if stopped_in is not None:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            search(config, folder, callbacks=[Watch(stop_in=stopped_in)], **options)
        bounds.clear()
    search(config, folder, callbacks=[watch := Watch()], **options)
    assert len(bounds) == 1, "nothing else can be taken for the bound that trains"
    assert {identity for _, _, identity in watch.seen} == {id(bounds[0])}
    assert {epoch for epoch, _, _ in watch.seen} == set(range(stopped_in or 0, EPOCHS))
    assert all(ready == READY[epoch] for epoch, ready, _ in watch.seen)
    logged = [record["weights/ibb"] != 0 for record in read_records(folder.metrics)]
    assert logged == READY
    state = torch.load(folder.path / "last.ckpt", weights_only=True)["state_dict"]
    names = [name for name in state if name.endswith("bound.ready")]
    assert names == ["training_module.objective.bound.ready"]
    assert state[names[0]]
