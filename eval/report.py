"""Results as a file, as a table for the terminal, and as one page that needs nothing beside it.

A result is the dict that `suite.run_suite` returns: CLIP_benchmark's keys and ours.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_pipelines.whole_files import write_whole
from eval.chart import percent, variant_chart

FORMAT_VERSION = 2
"""Version 1 had no image variants, and nothing of how sure a number is or where it comes from."""

METRIC_TITLES = {
    "acc1": "top-1",
    "acc5": "top-5",
    "mean_per_class_recall": "mean per class",
    "text_retrieval_recall@1": "image → text R@1",
    "text_retrieval_recall@5": "image → text R@5",
    "text_retrieval_recall@10": "image → text R@10",
    "image_retrieval_recall@1": "text → image R@1",
    "image_retrieval_recall@5": "text → image R@5",
    "image_retrieval_recall@10": "text → image R@10",
}
"""The words for each metric, in the order in which they are shown."""

COLUMN_TITLES = {
    "acc1": "top-1",
    "acc5": "top-5",
    "mean_per_class_recall": "mean",
    **{f"text_retrieval_recall@{k}": f"i→t@{k}" for k in (1, 5, 10)},
    **{f"image_retrieval_recall@{k}": f"t→i@{k}" for k in (1, 5, 10)},
}
"""The same for a terminal."""

HEADLINES = ("acc1", "text_retrieval_recall@1", "image_retrieval_recall@1")
"""The metrics that are drawn."""


def write_results(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write eval.json whole or not at all. Raises UserError where the file exists already."""
    document = {
        "format_version": FORMAT_VERSION,
        "provenance": dict(provenance),
        "results": [dict(result) for result in results],
    }
    # A metric that is not a number would not be JSON; it must fail here, not in the reader's hands.
    write_whole(path, json.dumps(document, indent=2, allow_nan=False) + "\n", overwrite=overwrite)


def write_page(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write `results_page` whole or not at all. Raises UserError where the file exists already."""
    write_whole(path, results_page(results, provenance), overwrite=overwrite)


def results_tables(results: Sequence[Mapping[str, Any]]) -> Group:
    """For each task a table with one row per variant and one for chance; shares in percent."""
    tables = [_task_table(name, _of_task(results, name)) for name in _task_names(results)]
    return Group(*tables, Text("\n".join(_remarks(results)), style="dim"))


def _task_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    shown = _metrics_of(rows)
    # Text, not markup: a path may hold square brackets.
    title = Text(name, style="bold")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
    table.add_column("variant", overflow="fold")
    for metric in shown:
        table.add_column(COLUMN_TITLES[metric], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row["variant"]), *_cells(row["metrics"], shown))
    table.add_row("chance", *_cells(rows[0]["chance"], shown), style="dim")
    return table


def results_page(results: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> str:
    """An HTML page with a chart and a table for each task. It loads nothing, runs no script."""
    template = page_templates().get_template("page.html.jinja")
    return template.render(page_values(results, provenance))


def page_templates(*others: jinja2.BaseLoader) -> jinja2.Environment:
    """The templates of this package, and of others that extend them; every value is escaped."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("eval", ""), *others]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_values(
    results: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """What `page.html.jinja` shows of the results."""
    return {
        "tasks": [_task_view(_of_task(results, name)) for name in _task_names(results)],
        "models": sorted({(result["model"], result["encoder_fingerprint"]) for result in results}),
        "provenance": [(str(key), _one_line(value)) for key, value in provenance.items()],
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _task_names(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(result["name"] for result in results))


def _of_task(results: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [result for result in results if result["name"] == name]


def _metrics_of(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [metric for metric in METRIC_TITLES if any(metric in r["metrics"] for r in results)]


def _remarks(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table needs to be read: its units, what was left out, what the tasks say of their data."""
    remarks = [
        "in percent; i→t@k: images with a right text among the k best; t→i@k: texts, likewise"
    ]
    for name in _task_names(results):
        first = _of_task(results, name)[0]
        remarks += [
            f"{name}: {number:,} left out: {cause}" for cause, number in first["skipped"].items()
        ]
        remarks += [f"{name}: {note}" for note in first["notes"]]
    return remarks


def _cells(shares: Mapping[str, float], shown: Sequence[str]) -> list[str]:
    return [percent(shares[metric]) if metric in shares else "" for metric in shown]


def _task_view(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page shows of one task."""
    first = rows[0]
    shown = _metrics_of(rows)
    counted = [f"{first['num_pictures']:,} pictures"]
    for key, noun in (("num_texts", "texts"), ("num_classes", "classes")):
        if key in first:
            counted.append(f"{first[key]:,} {noun}")
    return {
        "name": first["name"],
        "counted": ", ".join(counted),
        "rule": first["rule"],
        "warnings": [
            *(f"{number:,} left out: {cause}" for cause, number in first["skipped"].items()),
            *first["notes"],
        ],
        "data_fingerprint": first["data_fingerprint"],
        "titles": [METRIC_TITLES[metric] for metric in shown],
        "rows": [(row["variant"], _cells(row["metrics"], shown)) for row in rows],
        "chance": _cells(first["chance"], shown),
        "chart": variant_chart(
            [row["variant"] for row in rows],
            {
                METRIC_TITLES[metric]: [row["metrics"][metric] for row in rows]
                for metric in HEADLINES
                if metric in shown
            },
            {
                METRIC_TITLES[metric]: first["chance"][metric]
                for metric in HEADLINES
                if metric in shown
            },
        ),
    }


def _one_line(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
