"""What the page shows of one task: its numbers, its drawings, and where it goes wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metric_words import figure, headlines, interval, kind_of, percent, shown_metrics, title
from eval.mistakes import Thumbnail, detailed_result, pictures_of, shown_mistakes
from eval.task_charts import task_charts
from eval.text_depths import TextDepths
from eval.words import short

NUM_CLASSES_SHOWN = 10
"""Of the worst classes, and of the best; where there are no more than twice as many, all."""
NUM_KINDS_BESIDE = 12
"""More kinds of questions have a table of their own, which is closed at first."""
NAME_LETTERS = 80
TEXT_LETTERS = 160
NOTE_LETTERS = 500

Result = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """The numbers of one result stand in one column."""

    variant: str
    image_variant: str
    """Empty where all columns have the same."""
    cost: str
    """Blocks that run in the text tower, where that is known."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric over the columns."""

    title: str
    kind: str
    """The one kind of questions that it is about; empty where it is about all of them."""
    cells: list[tuple[str, str]]
    """Number and interval, each empty where there is none."""
    chance: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One mistake."""

    right: str
    given: str
    margin: str
    pictures: list[tuple[str, str]]
    """The address of a small copy, and what is said where there is none: of the picture, and of the
    one that was given instead of it if there is."""


def task_view(
    rows: Sequence[Result],
    thumbnails: Mapping[tuple[str, int], Thumbnail],
    depths: TextDepths | None,
) -> dict[str, Any]:
    """What the page shows of the results of one task. `depths` has the costs of the text tower's
    variants, where they are known.
    """
    first, detailed = rows[0], detailed_result(rows)
    numbers = [number_row(metric, rows) for metric in shown_metrics(rows)]
    kinds = [row for row in numbers if row.kind]
    if len(kinds) <= NUM_KINDS_BESIDE:
        kinds = []
    return {
        "name": short(first["name"], TEXT_LETTERS),
        "counted": counted(rows),
        "rule": short(first["rule"], 2000),
        "left_out": left_out(first),
        "notes": [short(note, NOTE_LETTERS) for note in first["notes"]],
        "near_ties": near_ties(rows),
        "data_fingerprint": short(first["data_fingerprint"], NAME_LETTERS),
        "columns": columns(rows, depths),
        "rows": [row for row in numbers if row not in kinds],
        "kinds": kinds,
        "has_intervals": any(row["intervals"] for row in rows),
        "charts": task_charts(rows, depths),
        "detailed": ", image ".join(labels(detailed, rows)),
        "classes": classes(detailed["per_class"]),
        "num_classes": len(detailed["per_class"]),
        "confusions": [
            (short(c["right"], NAME_LETTERS), short(c["given"], NAME_LETTERS), f"{c['count']:,}")
            for c in detailed["confusions"][:20]
        ],
        "cards": [card(first["name"], m, thumbnails) for m in shown_mistakes(detailed)],
    }


def overview(tasks: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """The headlines of several tasks in one table; empty for a single task."""
    if len(tasks) == 1:
        return {"heads": [], "lines": []}
    heads = {pair_of(row): row for rows in tasks.values() for row in rows}
    lines = []
    for name, rows in tasks.items():
        at = {pair_of(row): row for row in rows}
        lines += [
            (
                short(name, NAME_LETTERS),
                title(metric),
                [cell(at[pair], metric)[0] if pair in at else "" for pair in heads],
                number_row(metric, rows[:1]).chance,
            )
            for metric in headlines(rows)
        ]
    return {"heads": columns(list(heads.values()), None), "lines": lines}


def pair_of(row: Result) -> tuple[str, str]:
    """The variants of a result."""
    return row["variant"], row["image_variant"]


def counted(rows: Sequence[Result]) -> str:
    """ "6,252 pictures, 1,563 classes", the language where it is not English, and the depth of the image
    tower where there is one for all.
    """
    first = rows[0]
    kinds = (("num_pictures", "pictures"), ("num_texts", "texts"), ("num_classes", "classes"),
             ("num_questions", "questions"))  # fmt: skip
    words = ", ".join(f"{first[key]:,} {noun}" for key, noun in kinds if key in first)
    language = short(first.get("language", "en"), 20)
    images = {row["image_variant"] for row in rows}
    at_one = len(images) == 1 and images != {"default"}
    return " · ".join(
        [
            words,
            *([] if language == "en" else [f"language {language}"]),
            *([f"images at {short(first['image_variant'], 40)}"] if at_one else []),
        ]
    )


def left_out(result: Result) -> list[str]:
    """What was not counted, by cause: "3 left out: truncated picture"."""
    return [
        f"{number:,} left out: {short(cause, NAME_LETTERS)}"
        for cause, number in result["skipped"].items()
    ]


def near_ties(rows: Sequence[Result]) -> str:
    """For each metric that has any, the most near ties of any result: "3 in top-1, 1 in top-5"."""
    most = {
        metric: max(row["near_ties"].get(metric, 0) for row in rows)
        for metric in shown_metrics(rows)
    }
    return ", ".join(f"{number:,} in {title(metric)}" for metric, number in most.items() if number)


def labels(row: Result, rows: Sequence[Result]) -> list[str]:
    """The text variant of a result, and its image variant where that tells results apart."""
    names = [row["variant"]]
    if len({other["image_variant"] for other in rows}) > 1:
        names.append(row["image_variant"])
    return [short(name, 40) for name in names]


def columns(rows: Sequence[Result], depths: TextDepths | None) -> list[Column]:
    """The heads of the columns, one for each result. `depths` is that of `task_view`."""
    heads = []
    layers = depths.layers if depths else {}
    for row in rows:
        variant, *image = labels(row, rows)
        cost = f"{layers[row['variant']]} layers" if row["variant"] in layers else ""
        heads.append(Column(variant=variant, image_variant="".join(image), cost=cost))
    return heads


def number_row(metric: str, rows: Sequence[Result]) -> Row:
    """One metric of all results of a task."""
    chance = rows[0]["chance"].get(metric)
    return Row(
        title=title(metric),
        kind=short(kind_of(metric), NAME_LETTERS),
        cells=[cell(row, metric) for row in rows],
        chance="" if chance is None else figure(metric, chance),
    )


def cell(row: Result, metric: str) -> tuple[str, str]:
    """The number and the interval of a metric."""
    if metric not in row["metrics"]:
        return "", ""
    bounds = row["intervals"].get(metric)
    return (
        figure(metric, row["metrics"][metric]),
        "" if bounds is None else interval(metric, bounds),
    )


def classes(
    per_class: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """Heading and rows (class, pictures, top-1, top-5) of the worst classes and of the best, or of all."""

    # Of equal classes those with more pictures, which say more, come first on both sides.
    worst = sorted(per_class, key=lambda row: (row["acc1"], -row["pictures"], row["class"]))
    best = sorted(per_class, key=lambda row: (-row["acc1"], -row["pictures"], row["class"]))
    if len(per_class) <= 2 * NUM_CLASSES_SHOWN:
        parts = {"all, the worst first": worst} if per_class else {}
    else:
        parts = {"the worst": worst[:NUM_CLASSES_SHOWN], "the best": best[:NUM_CLASSES_SHOWN]}
    return [
        (
            heading,
            [
                (
                    short(row["class"], NAME_LETTERS),
                    f"{row['pictures']:,}",
                    percent(row["acc1"]),
                    percent(row["acc5"]) if "acc5" in row else "",
                )
                for row in rows
            ],
        )
        for heading, rows in parts.items()
    ]


def card(
    task: str, mistake: Mapping[str, Any], thumbnails: Mapping[tuple[str, int], Thumbnail]
) -> Card:
    """A mistake as it is shown; a picture without a small copy is a box that says why."""
    unread = Thumbnail(cause="not read for this page")
    pictures = [(number, thumbnails.get((task, number), unread)) for number in pictures_of(mistake)]
    return Card(
        right=short(mistake["right"], TEXT_LETTERS),
        given=short(mistake["given"], TEXT_LETTERS),
        margin=f"{mistake['margin']:.3f}",
        pictures=[
            (small.address, short(": ".join(filter(None, [f"picture {number}", small.cause])), 80))
            for number, small in pictures
        ],
    )
