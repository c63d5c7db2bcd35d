"""Lightning modules and recipes for pretraining and retraining."""
