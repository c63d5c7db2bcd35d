"""Measuring on a device that has no dcsnas: a folder goes there, and times come back."""
