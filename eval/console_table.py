"""Results as tables for a terminal, at most 100 columns wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from eval.metric_words import column_title, figure, kind_of, parts, shown_metrics
from eval.task_view import NOTE_LETTERS, counted, labels, left_out, near_ties
from eval.words import short

MAX_METRICS = 10
"""No task of this package has more, but for the kinds of its questions."""
MAX_KINDS = 12
VARIANTS_ABREAST = 7
NAMES_LETTERS = 18
"""Of the names of a row together: what ten metrics leave of 100 columns."""
KIND_LETTERS = 24

Result = Mapping[str, Any]


def task_tables(tasks: Mapping[str, Sequence[Result]]) -> Group:
    """For each task a table with a row per pair of variants and one for chance; shares in percent.

    Where its questions are of several kinds, these are the rows and the variants the columns.
    """
    pieces: list[Table | Text] = []
    for name, rows in tasks.items():
        # Text, not markup: a path may hold square brackets.
        pieces.append(Text(short(f"{name} · {counted(rows)}", 200), style="bold"))
        if any(map(kind_of, shown_metrics(rows))):
            starts = range(0, len(rows), VARIANTS_ABREAST)
            pieces += [_by_kind(rows[start : start + VARIANTS_ABREAST]) for start in starts]
        else:
            pieces.append(_by_variant(rows))
    return Group(*pieces, Text("\n".join(_remarks(tasks)), style="dim"))


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _by_variant(rows: Sequence[Result]) -> Table:
    shown = _shown(rows)
    names = [_names(row, rows) for row in rows]
    table = _empty_table()
    for head in ["text", "image"] if len(names[0]) == 2 else ["variant"]:
        table.add_column(head, overflow="fold")
    for metric in shown:
        table.add_column(column_title(metric), justify="right", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        table.add_row(*map(Text, name), *_cells(row["metrics"], shown))
    chance = ["chance", ""][: len(names[0])]
    table.add_row(*chance, *_cells(rows[0]["chance"], shown), style="dim")
    return table


def _by_kind(rows: Sequence[Result]) -> Table:
    table = _empty_table()
    table.add_column("", overflow="fold")
    for row in rows:
        table.add_column(Text("\n".join(_names(row, rows))), justify="right", overflow="fold")
    table.add_column("chance", justify="right", style="dim")
    for metric in _shown(rows):
        kind = short(kind_of(metric), KIND_LETTERS)
        values = [row["metrics"] for row in rows] + [rows[0]["chance"]]
        cells = [cell for value in values for cell in _cells(value, [metric])]
        table.add_row(Text(f"  {kind}" if kind else column_title(metric)), *cells)
    return table


def _shown(rows: Sequence[Result]) -> list[str]:
    """The metrics that have room: all of those that are about whole tasks, and the first kinds."""
    metrics = shown_metrics(rows)
    whole = [metric for metric in metrics if not kind_of(metric)][:MAX_METRICS]
    kinds = [metric for metric in metrics if kind_of(metric)][:MAX_KINDS]
    return [metric for metric in metrics if metric in whole or metric in kinds]


def _names(row: Result, rows: Sequence[Result]) -> list[str]:
    names = labels(row, rows)
    return [short(name, NAMES_LETTERS // len(names) - len(names) + 1) for name in names]


def _cells(values: Mapping[str, float], shown: Sequence[str]) -> list[str]:
    return [figure(metric, values[metric]) if metric in values else "" for metric in shown]


def _remarks(tasks: Mapping[str, Sequence[Result]]) -> list[str]:
    """What the tables need to be read: units, what was left out, what the tasks say of their data."""
    metrics = shown_metrics(row for rows in tasks.values() for row in rows)
    remarks = ["in percent"]
    if any("retrieval" in parts(metric)[0] for metric in metrics):
        remarks = [
            "in percent; i→t@k: images with a right text among the k best; t→i@k: texts, likewise"
        ]
    if any(parts(metric)[0].endswith("rank") for metric in metrics):
        remarks.append("med: median rank of the best right answer, 1 is the first")
    for task, rows in tasks.items():
        name = short(task, 80)
        remarks += [f"{name}: {line}" for line in left_out(rows[0])]
        remarks += [f"{name}: {short(note, NOTE_LETTERS)}" for note in rows[0]["notes"]]
        if ties := near_ties(rows, column_title):
            remarks.append(f"{name}: near ties, which could turn if scores moved by 1e-5: {ties}")
        if more := len(shown_metrics(rows)) - len(_shown(rows)):
            remarks.append(f"{name}: {more} more metrics are in the file and on the page")
    return remarks
