"""From the bytes of an image to an answer, over any session that returns logits and features."""
