"""Hostile files: every reader, on files that coverage-guided mutation made of valid ones."""
