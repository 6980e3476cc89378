"""What measuring one task at one pair of variants gives."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of a task, how sure they are, and where they come from."""

    metrics: dict[str, float]
    """Under CLIP_benchmark's names where it has them."""
    chance: dict[str, float]
    """What guessing reaches in each metric."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % by bootstrap over items; they say nothing of other training runs."""
    near_ties: dict[str, int] = field(default_factory=dict)
    """For a metric, the items that would turn if scores moved by 1e-5."""
    per_class: list[dict[str, Any]] = field(default_factory=list)
    """class, pictures, acc1, acc5 of each class with pictures; empty where there are no classes."""
    confusions: list[dict[str, Any]] = field(default_factory=list)
    """right, given, count of the most frequent wrong answers, at most 20."""
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    """picture, right, given, margin (score given - score right) of the worst, at most 24."""
    notes: list[str] = field(default_factory=list)
    """What was chosen on the way, such as a penalty on held-out pictures."""
