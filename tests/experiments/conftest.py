"""A test of experiments ends in time, whatever in it waits for what."""

import signal
from collections.abc import Generator
from typing import Any, NoReturn

import pytest

LIMIT_S = 400


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, Any, Any]:
    """Let a test fail where it and its fixtures take too long; what they clean up still runs."""

    def fail(*_: Any) -> NoReturn:
        pytest.fail(f"took more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LIMIT_S)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
