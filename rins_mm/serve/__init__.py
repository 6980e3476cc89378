"""A local search page over an index of pictures."""
