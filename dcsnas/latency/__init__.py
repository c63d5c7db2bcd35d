"""Per-operator latency tables: measuring, storing, predicting, and the expectation over a space."""
