"""How fast runs and bundles answer: each in a process of its own, in turn."""
