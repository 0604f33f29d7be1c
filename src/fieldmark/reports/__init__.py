"""What people read: figures, and pages that open offline, of one run or several."""
