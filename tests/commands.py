"""Commands within this process, where what is tested is not how a process begins."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from dcsnas.cli.main import run


def run_here(folder: Path, *arguments: str) -> str:
    """Run ``dcsnas ARGUMENTS`` in ``folder`` and return what it printed; it must end well.

    Networks are timed in two processes each, in place of six.
    """
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["dcsnas", *arguments])
        patch.setattr("dcsnas.latency.whole_networks.PASSES", 2)
        # it must not start pytest over
        patch.setattr("dcsnas.latency.allocator.reexec_with_allocator", lambda argv: None)
        with pytest.raises(SystemExit) as stop:
            run()
    assert stop.value.code == 0, printed.getvalue()
    return printed.getvalue()
