"""From what is on disk to a checked, split table of images and decoded pixels."""
