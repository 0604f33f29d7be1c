"""Charts of studies, each drawn by one function of an axes. A rung has one colour in all of them."""
