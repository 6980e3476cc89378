"""Scores any image-text encoder. Knows no trainer and no recursion.

The contract is `encoder.DualEncoder`; `suite.run_suite` runs many tasks, each a pure function of
vectors.
"""
