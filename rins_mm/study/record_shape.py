"""What the record of a run holds, so that one that was cut or changed is known before it is judged by."""

from typing import Any

from data_pipelines.shapes import Shape, is_number, is_text, is_whole, misfit


def is_positive(value: Any) -> bool:
    """A number above 0, by which others are divided."""
    return is_number(value) and value > 0


def is_point(value: Any) -> bool:
    """Samples, FLOPs and a loss."""
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value))


def is_table_of_intervals(value: Any) -> bool:
    """Two ends by the name of a metric, or nothing at all; a metric may have no interval."""
    return value is None or not misfit(value, {"*": _is_interval})


def _is_interval(value: Any) -> bool:
    return not value or (isinstance(value, list) and len(value) == 2 and all(map(is_number, value)))


_SPENT: dict[str, Shape] = {
    "samples": is_positive,
    "flops": is_positive,
    "layer_steps": is_positive,
}

RECORD: Shape = {
    "arm": is_text,
    "seed": is_whole,
    "trained_depth": is_text,
    "results": [
        {
            "name": is_text,
            "dataset": is_text,
            "variant": is_text,
            "metrics": {"*": is_number},
            "intervals": is_table_of_intervals,
        }
    ],
    "held_out": {"fingerprint": is_text, "losses": {"*": is_number}},
    "config": {"optimizer": {"peak_learning_rate": is_positive}},
    "steps": is_whole,
    "spent": _SPENT,
    "curve": [{**_SPENT, "metrics": {"*": is_number}}],
    "losses": [is_point],
    "training_seconds": is_number,
    "parameters": is_whole,
    "versions": {},
}
"""What a study reads of a record."""
