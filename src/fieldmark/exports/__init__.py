"""Exporting runs as bundles: the graph in another format, and the proof that it answers as the run does."""
