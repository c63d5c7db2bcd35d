"""Attention: one residual block, and the selectors by which its kinds differ."""
