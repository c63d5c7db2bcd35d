"""What the tests of experiments share; each ends in time, whatever in it waits for what."""

import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dcsnas.experiments import nni_manager
from experiment_setup import WITHOUT
from search_setup import write_search_inputs

LIMIT_S = 400


HERE = Path(__file__).parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Let a test fail where it and its fixtures take too long; what they clean up still runs.

    pytest calls this for the tests of other folders as well, which have no such limit.
    """
    if not item.path.is_relative_to(HERE):
        return (yield)

    def fail(*_: Any) -> NoReturn:
        pytest.fail(f"took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT_S)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a space, its table and a data set."""
    return write_search_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(params=[True, False], ids=["patched", "stock"])
def patched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the manager of this test is patched."""
    if not request.param:
        monkeypatch.setattr(nni_manager, "PATCHES", WITHOUT)
    return request.param
