"""``dcsnas ablate``: variants of a network under one recipe and several seeds, in one table."""
