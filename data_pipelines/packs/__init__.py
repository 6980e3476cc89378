"""Data sets small enough to travel with the project: compressed pictures and captions, expanded on first use."""
