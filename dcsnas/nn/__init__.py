"""The network: blocks, DCS-Attention, heads, and building one from an architecture."""
