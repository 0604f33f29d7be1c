"""Augmented training batches, and what is done to their images."""
