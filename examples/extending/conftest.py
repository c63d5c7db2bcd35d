"""Running the real commands with a plugin of this folder, in a folder of the test's own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dcsnas.cli.main import run
from dcsnas.config import plugins
from dcsnas.config.search import FORMS, SEARCH_CONFIGS
from dcsnas.config.stages import TRAIN_CONFIGS
from dcsnas.latency.backends import BACKENDS
from dcsnas.nn.attention.selectors import SELECTORS
from dcsnas.search.cost_terms import COST_FORMS
from dcsnas.spaces.attention import KINDS
from dcsnas.spaces.backbones import BACKBONES, find_backbone
from dcsnas.tasks.task import TASKS

Command = Callable[..., str]
REGISTRIES: tuple[dict[str, Any], ...] = (
    *(BACKBONES, KINDS, SELECTORS, TASKS, TRAIN_CONFIGS, SEARCH_CONFIGS),
    *(BACKENDS, COST_FORMS, FORMS),
)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Forget what a plugin registered when the test is over; importing it registers as well."""
    plugins.load_installed()  # once a process: what it registers must stay
    kept = [(registry, dict(registry)) for registry in REGISTRIES]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    find_backbone.cache_clear()
    for module in [name for name in sys.modules if name.startswith("examples.")]:
        del sys.modules[module]


@pytest.fixture
def dcsnas(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Return a function that runs a command and returns what it printed, or its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2]), *sys.path])
    monkeypatch.setattr(plugins, "named", [])
    # one process for each network that is timed, in place of six
    monkeypatch.setattr("dcsnas.latency.whole_networks.PASSES", 2)
    # within a test a command must not start pytest over
    monkeypatch.setattr("dcsnas.latency.allocator.reexec_with_allocator", lambda argv: None)

    def command(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["dcsnas", *arguments])
        with pytest.raises(SystemExit) as stop:
            run()
        printed = capsys.readouterr()
        assert stop.value.code == code, printed.out + printed.err
        return printed.err if code else printed.out

    return command
