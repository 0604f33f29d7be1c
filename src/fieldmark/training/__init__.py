"""The one loop, its schedule, optimiser, loss, checkpoints, and the training of a run from start to finish."""
