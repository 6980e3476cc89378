"""Weights in: other people's checkpoints as weights of our towers, one module per format."""
