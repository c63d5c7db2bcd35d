"""Features, distances, ranking metrics and information measures."""
