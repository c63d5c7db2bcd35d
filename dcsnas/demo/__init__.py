"""The whole flow on a rendered data set."""
