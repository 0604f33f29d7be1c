"""Looking for the best recipe in a space."""
