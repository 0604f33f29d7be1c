"""What an image goes through before a network sees it: the one decoder and the one preprocessing."""
