"""Predictions of a model as arrays, and everything that is computed from them."""
