"""The drawings of one task: its headlines over the depths of the text, or of the pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.chart import Chart, variant_chart
from eval.metric_words import headlines, title
from eval.text_depths import TextDepths

Result = Mapping[str, Any]
Points = Sequence[tuple[Result, str]]
"""Results, and the metric of each that is drawn."""


def task_charts(rows: Sequence[Result], depths: TextDepths | None) -> list[Chart]:
    """One drawing with a line per headline; where texts and pictures both have several variants, one
    per headline with a line per variant of the pictures.

    Where the costs of the depths of the text are known, they are what goes from left to right. Without
    drawings where there is a single point, and where a result is missing between others.
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
    costs, marked, across = None, None, "depth of the text tower"
    if depths is not None and depths.orders(texts):
        texts.sort(key=lambda text: depths.flops[text])
        costs = [depths.flops[text] for text in texts]
        across = f"text FLOPs per caption of {depths.caption_tokens:.3g} tokens"
        marked = next((text for text in texts if text in depths.trained), None)
    if len(texts) > 1 and len(images) > 1:
        return [
            _chart(
                {image: [(at[text, image], metric) for text in texts] for image in images},
                texts,
                costs,
                marked,
                heading=f"{title(metric)}, a line for each depth of the pictures",
                across=across,
            )
            for metric in shown
        ]
    # The depths of the texts may stand in another order than the results.
    ordered = [at[text, image] for text in texts for image in images]
    lines = {title(metric): [(row, metric) for row in ordered] for metric in shown}
    if len(texts) > 1:
        return [_chart(lines, texts, costs, marked, heading="", across=across)]
    return [_chart(lines, images, None, None, heading="", across="depth of the image tower")]


def _chart(
    lines: Mapping[str, Points],
    names: Sequence[str],
    costs: Sequence[float] | None,
    marked: str | None,
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
        names,
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
        marked=marked,
        title=heading,
        across=across,
    )
