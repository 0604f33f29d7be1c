"""What everything else builds on: recipes, run folders, errors, files, the console."""
