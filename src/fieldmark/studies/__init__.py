"""Many runs and one table: which change to a recipe helped, over seeds and datasets."""
