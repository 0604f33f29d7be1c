"""The built-in birds: drawn images of made-up species, told apart by their field marks."""
