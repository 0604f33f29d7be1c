"""Charts of reports and studies. Each is drawn by one function of an axes, and is the same in a PNG and on a page."""
