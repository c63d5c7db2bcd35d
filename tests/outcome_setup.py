"""Short retrainings of a micro network, and how their weights compare."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcsnas.config.jsonl import read_records
from dcsnas.config.runs import RunFolder
from dcsnas.config.stages import RetrainConfig
from dcsnas.config.strict import validate
from dcsnas.data.reid import ReidData
from dcsnas.search.derive import architecture_of
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.sampling import largest_choice
from dcsnas.training.train import Trained, train
from latency_fakes import fake_table, micro_space

MASKED = micro_space()
SPACE = MASKED.with_attention("sa")
ARCHITECTURE, WITH_MASKS = (
    architecture_of(space, largest_choice(space), table=fake_table(space), seed=0)
    for space in (SPACE, MASKED)
)
UNCHANGED = {"pad": 0, "flip": 0.0, "erase": 0.0}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
EVERYTHING = {
    "loss": {"ib_size": [4, 2], "eta": 0.5, "eta_warmup": 0.0, "center": 0.01},
    "augment": {"pad": 1, "flip": 0.5, "erase": 0.5, "erase_value": "bot", "mixup": 0.3},
    "ema": 0.8,
    "validation": {"every": 2, "hold_out": 0.25},
    "classifier_epochs": 1,
}

State = dict[str, Tensor]


def run(
    folder: Path,
    name: str,
    given: ReidData | None = None,
    *,
    architecture: ArchitectureFile = ARCHITECTURE,
    **changes: Any,
) -> Trained:
    content = {
        "data": {"root": str(folder / "people"), "workers": 0},
        "epochs": 5,
        "batch": {"identities": 4, "images": 2},
        "augment": {"pad": 1},
        "loss": {"ib_size": [4, 2]},
        "optimizer": {"name": "sgd", "lr": 0.02, "schedule": "constant"},
        **changes,
    }
    config = validate(RetrainConfig, content, "test")
    out = RunFolder(folder / name)
    return train(config, architecture, out, stage="retrain", data=given, progress=False)


def metrics(result: Trained) -> list[dict[str, Any]]:
    return read_records(result.weights.with_name("metrics.jsonl"))


def different(first: State, second: State) -> list[str]:
    assert first.keys() == second.keys()
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]


def copy_of(module: torch.nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
