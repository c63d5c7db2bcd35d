"""Sessions in Python: what ``import dcsnas as dn`` gives beside spaces, networks and tables.

Every function is the command of its name: the same code with the same defaults, files in the same
places, the same UserError where something is wrong. One thing differs: a command that measures or
trains starts over under an allocator that keeps its memory, which a session cannot do. Latencies
measured here are under this process's allocator, as their conditions say; ``docs/python.md``.
"""
