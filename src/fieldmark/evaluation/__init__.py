"""What needs a network or a run folder: the prediction pass, and everything that a run is measured by."""
