"""Sweeps of searches as NNI experiments: the only importer of ``nni.experiment``."""
