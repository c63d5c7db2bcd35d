"""Random faults: every stage is killed, or finds its machine failing, at a random moment.

``python -m faults --kills N``, with ``tests`` in PYTHONPATH; ``make faults`` does. It is of no use
to ``import`` this elsewhere but in ``tests/test_random_faults.py``.
"""
