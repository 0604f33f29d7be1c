"""What decides a run: the sections of a recipe, how recipes are read and merged, and how they are written."""
