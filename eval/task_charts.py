"""The drawings of one task: its headlines over the depths of the text, or of the pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.chart import Chart, variant_chart
from eval.metric_words import headlines, title

Result = Mapping[str, Any]
Points = Sequence[tuple[Result, str]]
"""Results, and the metric of each that is drawn."""


def task_charts(rows: Sequence[Result], layers: Mapping[str, int]) -> list[Chart]:
    """One drawing with a line per headline; where texts and pictures both have several variants, one
    per headline with a line per variant of the pictures.

    Without drawings where there is a single point, and where a result is missing between others.
    """
    texts = list(dict.fromkeys(row["variant"] for row in rows))
    images = list(dict.fromkeys(row["image_variant"] for row in rows))
    at = {(row["variant"], row["image_variant"]): row for row in rows}
    shown = headlines(rows)
    complete = len(at) == len(rows) == len(texts) * len(images) and all(
        math.isfinite(row["metrics"].get(metric, math.nan)) for row in rows for metric in shown
    )
    if not shown or not complete or len(rows) == 1:
        return []
    costs = [layers[text] for text in texts] if layers.keys() >= set(texts) else None
    across = "depth of the text tower" + ("" if costs is None else " · blocks that run")
    if len(texts) > 1 and len(images) > 1:
        return [
            _chart(
                {image: [(at[text, image], metric) for text in texts] for image in images},
                texts,
                costs,
                heading=f"{title(metric)}, a line for each depth of the pictures",
                across=across,
            )
            for metric in shown
        ]
    lines = {title(metric): [(row, metric) for row in rows] for metric in shown}
    if len(texts) > 1:
        return [_chart(lines, texts, costs, heading="", across=across)]
    return [_chart(lines, images, None, heading="", across="depth of the image tower")]


def _chart(
    lines: Mapping[str, Points],
    names: Sequence[str],
    costs: Sequence[int] | None,
    *,
    heading: str,
    across: str,
) -> Chart:
    # Lines of one metric share the level of chance: it is drawn once.
    chance: dict[str, float] = {}
    for name, points in lines.items():
        result, metric = points[0]
        level = result["chance"].get(metric)
        if level is not None and (level not in chance.values()):
            chance[name] = level
    return variant_chart(
        [
            name if costs is None else f"{name} · {cost}"
            for name, cost in zip(names, costs or names, strict=True)
        ],
        {
            name: [result["metrics"][metric] for result, metric in points]
            for name, points in lines.items()
        },
        chance,
        intervals={
            name: [result["intervals"].get(metric) for result, metric in points]
            for name, points in lines.items()
        },
        costs=costs,
        title=heading,
        across=across,
    )
