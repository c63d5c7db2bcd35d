"""One file per command: prints, never computes."""
