"""Bundles: folders that are deployed, and that answer as the run did that they were exported from."""
