"""Layouts of person re-identification sets: each is read into samples and what is wrong."""
