"""The built-in birds: drawn pictures of made-up species, told apart by their field marks."""
