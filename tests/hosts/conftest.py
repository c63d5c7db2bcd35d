"""Hosts for the tests marked ``hosts``, which skip themselves where there can be none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts.network import Host, missing, network
from hosts.runs import write_inputs


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    """Return two hosts."""
    if lacking := missing():
        pytest.skip(lacking)
    with network(2) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the inputs of all stages, on a disk that all hosts share."""
    return write_inputs(tmp_path_factory.mktemp("hosts"))
