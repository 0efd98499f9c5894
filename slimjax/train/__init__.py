"""Training: the objective over widths, the pmapped step, the loop around it."""
