"""A search whose loss is not finite ends with the step and the files of its batch."""

from pathlib import Path
from typing import Any

import pytest

from dcsnas.data.reid import read_reid, split_train
from dcsnas.tasks.reid import pk_loader
from killed_search import search_command, write_case
from reid_data import SIZE
from search_setup import small_search, write_search_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table, a data set and a configuration."""
    folder = write_search_inputs(tmp_path_factory.mktemp("not_finite"))
    write_case(folder, "add")
    return folder


@pytest.mark.parametrize(
    ("option", "phase"), [("weights.lr=1e30", "weights"), ("architecture.lr=2e37", "architecture")]
)
def test_loss_that_is_not_finite_names_step_and_files(
    folder: Path, option: str, phase: str
) -> None:
    # split 0.4: four steps of the architecture an epoch, so that the first can spoil the others
    options = ["--set", option, "--set", "split=0.4"]
    ended = search_command(folder, "add", f"diverged_{phase}", *options)
    assert ended.code == 2, ended.output
    _, _, message = ended.output.partition("error: the loss is ")
    loss, _, rest = message.partition(" at step ")
    assert loss in ("nan", "inf")
    step, _, rest = rest.partition(
        "; lower weights.lr or architecture.lr, or check the batch's images: "
    )
    parts = split_train(read_reid(folder / "data").train, fraction=0.4, seed=0)
    config = small_search(folder)
    loaders: list[Any] = [pk_loader(config, part, SIZE) for part in parts]
    epoch, index = divmod(int(step), sum(map(len, loaders)))
    in_architecture = index >= len(loaders[0])
    assert in_architecture == (phase == "architecture")
    sampler = loaders[in_architecture].batch_sampler
    sampler.set_epoch(epoch)
    indices = list(sampler)[index - in_architecture * len(loaders[0])]
    names = [parts[in_architecture][i].path.name for i in indices]
    assert rest.strip() == ", ".join(f"bounding_box_train/{name}" for name in names)
