"""The recipe, the run folder, the console, device and precision."""
