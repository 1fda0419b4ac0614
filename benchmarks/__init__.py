"""Side-by-side measurements, and their last results."""
