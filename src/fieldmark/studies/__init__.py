"""Studies: which change to a recipe helped, over seeds and datasets."""
