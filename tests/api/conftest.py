"""A search and a training by the façade, whose files those of commands are compared with."""

from pathlib import Path

import pytest
import yaml

import dcsnas as dn
from deployment_setup import Networks
from latency_fakes import micro_space
from search_setup import small_search, write_search_inputs

SPACE = micro_space()
COMMON = {"epochs": 2, "batch": {"identities": 4, "images": 2}, "augment": {"pad": 1}}


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, the micro space, its table, and configurations of stages."""
    root = write_search_inputs(tmp_path_factory.mktemp("facade"))
    search = small_search(root).model_dump(mode="json")
    (root / "search.yaml").write_text(yaml.safe_dump(search))
    (root / "retrain.yaml").write_text(yaml.safe_dump({"data": search["data"], **COMMON}))
    return root


@pytest.fixture(scope="package")
def searched(folder: Path) -> dn.SearchRun:
    """Return a search for a target, of three epochs."""
    return dn.search(
        folder / "search.yaml",
        table=dn.load_table(folder / "table.json"),
        target_ms=0.3,
        set=["epochs=3"],
        out=folder / "searched",
        allow_foreign=True,
    )


@pytest.fixture(scope="package")
def trained(folder: Path, searched: dn.SearchRun) -> dn.TrainedRun:
    """Return the training of the network that it found, from its weights."""
    network = searched.derive(out=folder / "network.yaml")
    return dn.train(
        folder / "retrain.yaml", network, start=searched.supernet, out=folder / "trained"
    )


@pytest.fixture
def weights(tmp_path: Path) -> dn.TrainedRun:
    """Return an untrained network whose every number differs from its default."""
    return dn.load_weights(Networks(tmp_path).save("model.safetensors", SPACE))
