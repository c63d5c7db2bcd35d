"""The program ``dcsnas``, and ``python -m dcsnas``."""

from dcsnas.config.environment import settle
from dcsnas.config.interrupts import ctrl_c_ends


def main() -> None:
    """Run the command line in an environment of its own."""
    ctrl_c_ends()
    settle()
    from dcsnas.cli.main import run  # libraries are imported in that environment

    run()


if __name__ == "__main__":
    main()
