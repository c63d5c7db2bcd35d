"""A data set, and the weights of an untrained network."""

from pathlib import Path

import pytest

from deployment_setup import Networks
from latency_fakes import micro_space
from reid_data import write_reid_set


@pytest.fixture
def networks(tmp_path: Path) -> Networks:
    return Networks(tmp_path / "networks")


@pytest.fixture
def weights(networks: Networks) -> Path:
    """Return the weights of the micro space's largest network, with DCS-Attention."""
    return networks.save("model.safetensors", micro_space())


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Return a data set of 8 identities to test on, with 16 queries and 16 gallery images."""
    return write_reid_set(tmp_path / "people")
