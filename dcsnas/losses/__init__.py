"""Training losses on plain tensors: batch-hard triplet and the information bottleneck."""
