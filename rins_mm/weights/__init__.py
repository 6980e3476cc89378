"""Weights in: other people's checkpoints as weights of our towers. One module per format, each a pure function of names."""
