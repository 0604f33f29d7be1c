"""What an image goes through before a model sees it: the one decoder and the one evaluation preprocessing (NumPy and Pillow only)."""
