"""Augmented training batches and the operations on their images."""
