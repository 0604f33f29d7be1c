"""One training: its preparation, the loop and its parts, and the weights, predictions and decisions that it leaves."""
