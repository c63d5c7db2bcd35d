"""Re-ID data sets, image folders, the rendered data set, samplers and transforms."""
