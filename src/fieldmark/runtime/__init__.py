"""From an image's bytes to a network's input: the one decoder and the one preprocessing."""
