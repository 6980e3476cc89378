"""Trained encoders as folders that others can load: one module per format."""
