"""``python -m dcsnas``."""

from dcsnas.cli.main import run

run()
