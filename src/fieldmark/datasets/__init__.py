"""Datasets: layouts, splits, the pixel cache, batches, augmentation, the built-in birds."""
