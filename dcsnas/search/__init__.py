"""The differentiable search on NNI: supernet, strategy, objective, derivation."""
