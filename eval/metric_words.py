"""What metrics are called, in which order they stand, and how their values are written."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eval.words import short

WORDS = {
    "acc1": ("top-1", "top-1"),
    "acc5": ("top-5", "top-5"),
    "mean_per_class_recall": ("mean per class", "mean"),
    "linear_probe_acc1": ("linear probe top-1", "linear"),
    "linear_probe_mean_per_class_recall": ("linear probe, mean per class", "linear mean"),
    "knn_acc1": ("k-NN top-1", "k-NN"),
    "knn_mean_per_class_recall": ("k-NN, mean per class", "k-NN mean"),
    "accuracy": ("right choice", "right"),
    "mean_per_kind_accuracy": ("mean over kinds", "mean"),
    "text_score": ("text score", "text"),
    "image_score": ("image score", "image"),
    "group_score": ("group score", "group"),
    "text_retrieval_recall": ("image → text R", "i→t"),
    "text_retrieval_median_rank": ("image → text median rank", "i→t med"),
    "text_retrieval_map": ("image → text mAP", "i→t mAP"),
    "image_retrieval_recall": ("text → image R", "t→i"),
    "image_retrieval_median_rank": ("text → image median rank", "t→i med"),
    "image_retrieval_map": ("text → image mAP", "t→i mAP"),
}
"""For each metric, without what follows an @ or a colon, its title on a page and on a terminal; in the
order in which they are shown."""

HEADLINES = (
    "acc1",
    "text_retrieval_recall@1",
    "image_retrieval_recall@1",
    "accuracy",
    "text_score",
    "image_score",
    "group_score",
    "linear_probe_acc1",
    "knn_acc1",
)
"""The metrics that are drawn, and that stand in the overview of many tasks."""


def shown_metrics(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """All metrics that any of the results has: those with words in their order, then the others.

    What a metric says of one kind of question ("accuracy:swap attribute") stands below it.
    """
    found = dict.fromkeys(metric for result in results for metric in result["metrics"])
    order = {base: place for place, base in enumerate(WORDS)}

    def place(metric: str) -> tuple[int, float, str]:
        base, mark, detail = parts(metric)
        number = float(detail) if mark == "@" and detail.isascii() and detail.isdigit() else 0.0
        return order.get(base, len(order)), number, detail if mark == ":" else ""

    return sorted(found, key=place)


def parts(metric: str) -> tuple[str, str, str]:
    """("accuracy", ":", "swap attribute"), ("image_retrieval_recall", "@", "5"), ("acc1", "", "")."""
    found = re.match(r"([^@:]*)([@:]?)(.*)", metric, flags=re.DOTALL)
    assert found is not None
    base, mark, detail = found.groups()
    return base, mark, detail


def kind_of(metric: str) -> str:
    """The kind of questions that a metric is about; empty where it is about all of them."""
    _, mark, detail = parts(metric)
    return detail if mark == ":" else ""


def title(metric: str) -> str:
    """The metric in words: "image → text R@5"."""
    base, mark, detail = parts(metric)
    words = WORDS.get(base, (base, base))[0]
    return short(f"{words} · {detail}" if mark == ":" else f"{words}{mark}{detail}", 80)


def column_title(metric: str) -> str:
    """The same for a narrow column: "i→t@5"."""
    base, mark, detail = parts(metric)
    return short(f"{WORDS.get(base, (base, base))[1]}{mark}{detail}", 14)


def figure(metric: str, value: float) -> str:
    """A share in percent, a rank as it is."""
    if parts(metric)[0].endswith("rank") or not 0 <= value <= 1:
        return f"{value:,.1f}".removesuffix(".0")
    return percent(value)


def interval(metric: str, bounds: Sequence[float]) -> str:
    """ "[25.1, 28.3]", in the units of `figure`."""
    return f"[{', '.join(figure(metric, bound) for bound in bounds)}]"


def percent(share: float) -> str:
    """A share as a percentage with one decimal, two below one percent."""
    return f"{100 * share:.1f}" if share >= 0.01 or share == 0 else f"{100 * share:.2f}"


def headlines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of these results that are drawn, at most three."""
    return [
        metric
        for metric in HEADLINES
        if any(math.isfinite(result["metrics"].get(metric, math.nan)) for result in results)
    ][:3]
