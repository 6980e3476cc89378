"""CLIP_benchmark 1.6.2 with the two changes without which it does not run here.

It imports requests (for downloads that no test makes) without requiring it, and it makes a number of an
array that has one element but also an axis, which NumPy has refused since 2.4.
"""

import sys
from types import ModuleType
from typing import Any

import numpy as np

from data_pipelines import torchvision_cpu  # noqa: F401

# isort: split
try:
    import requests  # noqa: F401
except ImportError:
    sys.modules["requests"] = ModuleType("requests")

# isort: split
from clip_benchmark import cli
from clip_benchmark.metrics import zeroshot_classification


def number_of(value: Any) -> float:
    """What `float` gave before."""
    return float(value.item() if isinstance(value, np.ndarray) else value)


zeroshot_classification.float = number_of

__all__ = ["cli", "zeroshot_classification"]
