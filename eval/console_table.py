"""Results as tables for a terminal, at most 100 columns wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from data_pipelines.words import cell
from eval.metric_words import column_title, figure, kind_of, shown_metrics, title
from eval.task_view import NOTE_LETTERS, counted, labels, left_out, near_ties
from eval.words import short

METRICS_ABREAST = 4
"""More metrics than these are rows, and the variants columns."""
VARIANTS_ABREAST = 6
MAX_KINDS = 12
NAME_LETTERS = 9
TITLE_LETTERS = 26

Result = Mapping[str, Any]


def task_tables(tasks: Mapping[str, Sequence[Result]]) -> Group:
    """For each task a table of its metrics at each pair of variants, and of chance; shares in percent.

    With more than six pairs a table of many metrics is continued below.
    """
    pieces: list[Table | Text] = []
    for name, rows in tasks.items():
        pieces.append(cell(short(f"{name} · {counted(rows)}", 200), style="bold"))
        if len(shown_metrics(rows)) <= METRICS_ABREAST:
            pieces.append(_by_variant(rows))
        else:
            starts = range(0, len(rows), VARIANTS_ABREAST)
            pieces += [_by_metric(rows[start : start + VARIANTS_ABREAST], rows) for start in starts]
    return Group(*pieces, *(cell(remark, style="dim") for remark in _remarks(tasks)))


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _by_variant(rows: Sequence[Result]) -> Table:
    """A row for each pair of variants, and one for chance."""
    shown = shown_metrics(rows)
    names = [labels(row, rows) for row in rows]
    table = _empty_table()
    for head in ["text", "image"] if len(names[0]) == 2 else ["variant"]:
        table.add_column(head, overflow="fold", max_width=2 * NAME_LETTERS)
    for metric in shown:
        table.add_column(column_title(metric), justify="right", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        table.add_row(*map(cell, name), *_cells(row["metrics"], shown))
    chance = ["chance", ""][: len(names[0])]
    table.add_row(*chance, *_cells(rows[0]["chance"], shown), style="dim")
    return table


def _by_metric(shown: Sequence[Result], rows: Sequence[Result]) -> Table:
    """A row for each metric; the columns are some of the results of a task, and chance."""
    table = _empty_table()
    head = "text\nimage" if len(labels(rows[0], rows)) == 2 else ""
    table.add_column(head, overflow="fold", max_width=TITLE_LETTERS)
    for row in shown:
        names = [short(name, NAME_LETTERS) for name in labels(row, rows)]
        table.add_column(Text("\n".join(names)), justify="right", no_wrap=True)
    table.add_column("chance", justify="right", style="dim", no_wrap=True)
    for metric in _with_room(rows):
        kind = kind_of(metric)
        values = [row["metrics"] for row in shown] + [rows[0]["chance"]]
        cells = [text for value in values for text in _cells(value, [metric])]
        name = (
            f"  {short(kind, TITLE_LETTERS - 2)}" if kind else short(title(metric), TITLE_LETTERS)
        )
        table.add_row(cell(name), *cells)
    return table


def _with_room(rows: Sequence[Result]) -> list[str]:
    """The metrics that are about whole tasks, and the first of those that are about a kind."""
    metrics = shown_metrics(rows)
    kinds = [metric for metric in metrics if kind_of(metric)]
    return [metric for metric in metrics if metric not in kinds[MAX_KINDS:]]


def _cells(values: Mapping[str, float], shown: Sequence[str]) -> list[str]:
    return [figure(metric, values[metric]) if metric in values else "" for metric in shown]


def _remarks(tasks: Mapping[str, Sequence[Result]]) -> list[str]:
    """What the tables need to be read: units, what was left out, what the tasks say of their data."""
    remarks = ["shares in percent"]
    if any("retrieval" in m for rows in tasks.values() for m in shown_metrics(rows)):
        remarks = ["shares in percent; image → text R@k: images with a right text among the k best"]
    for task, rows in tasks.items():
        name = short(task, 80)
        remarks += [f"{name}: {line}" for line in left_out(rows[0])]
        remarks += [f"{name}: {short(note, NOTE_LETTERS)}" for note in rows[0]["notes"]]
        if ties := near_ties(rows):
            remarks.append(f"{name}: near ties, which could turn if scores moved by 1e-5: {ties}")
        if more := len(shown_metrics(rows)) - len(_with_room(rows)):
            remarks.append(f"{name}: {more} more kinds are in the file and on the page")
    return remarks
