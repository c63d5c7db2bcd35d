"""What the tests of whole searches share: their inputs on disk, and a small configuration."""

from pathlib import Path
from typing import Any

import yaml
from torch import nn

from dcsnas.config.search import CostConfig, SearchConfig, validate_search
from dcsnas.latency.table import save_table
from dcsnas.nn.heads import TaskNetwork
from dcsnas.search.loop import SearchModule
from dcsnas.spaces.space import SearchSpace
from dcsnas.tasks.task import find_task
from latency_fakes import fake_table, micro_space
from reid_data import write_reid_set


def write_search_inputs(root: Path) -> Path:
    """Write a data set, the micro space and its table to ``root`` and return it."""
    space = micro_space()
    write_reid_set(root / "data")
    save_table(root / "table.json", fake_table(space).file)
    (root / "space.yaml").write_text(yaml.safe_dump(space.file.model_dump(mode="json")))
    return root


def search_content(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration file of a search on the inputs in ``folder``, over in a second."""
    return {
        "space": str(folder / "space.yaml"),
        "table": str(folder / "table.json"),
        "data": {"root": str(folder / "data"), "workers": 0},
        "epochs": 4,
        "batch": {"identities": 4, "images": 2},
        "augment": {"pad": 1},
        "loss": {"ib_size": [4, 2]},
        "architecture": {"lr": 0.1, "warmup_epochs": 1},
        "weights": {"lr": 0.02},
        **changes,
    }


def small_search(folder: Path, **changes: Any) -> SearchConfig:
    """Return that search's configuration."""
    content = search_content(folder, **changes)
    for key in ("batch", "loss") if content.get("task") == "classify" else ():
        del content[key]
    return validate_search(content, "test")


def objective_of(content: Any) -> CostConfig:
    """Return the objective of a search's configuration."""
    base = {"space": "micro", "table": "t.json", "data": {"root": "."}}
    return validate_search({**base, "objective": content}, "search.yaml").objective


def search_module_of(config: SearchConfig, space: SearchSpace, *, classes: int) -> SearchModule:
    """Return the module of a search, before the supernet is set."""
    task, features = find_task(config.task), space.any_architecture.feature_parts
    return SearchModule(
        TaskNetwork(nn.Identity(), task.head_of(features, classes)),
        task.objective_of(config, classes, features),
        config,
        size=space.size,
        names={},
    )
