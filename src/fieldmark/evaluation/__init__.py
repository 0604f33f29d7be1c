"""What needs a network, or a `Run`, which imports PyTorch: the prediction pass, and everything that a run is measured by."""
