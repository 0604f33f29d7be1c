"""What predictions say: metrics, intervals, decisions and comparisons, as pure functions of arrays."""
