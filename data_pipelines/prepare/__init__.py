"""Offline jobs that make data sets: run them by hand, once; nothing here is needed to train."""
