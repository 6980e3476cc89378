"""The worst mistakes as pictures: small copies that a page can hold."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from eval.encoder import Picture
from eval.metric_words import HEADLINES
from eval.pixels import rgb_image
from eval.task_kinds import Task
from eval.words import short

NUM_SHOWN = 12
"""Mistakes of each task that a page shows."""
SIDE = 128
"""Pixels of the longer side of a small copy."""
MAX_BYTES = 4_000_000
"""Of all small copies of a page together."""


def mistake_thumbnails(
    tasks: Iterable[Task], results: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, int], "Thumbnail"]:
    """Small copies of the pictures that `report.results_page` shows of these results, by the name of
    the task and the number of the picture.

    Only the worst mistakes of one result of each task are shown. A picture that cannot be read, or
    for which the page has no room left, has a cause instead.
    """
    pictures = {task.name: task.pictures for task in tasks}
    wanted = [key for key in _shown_pictures(results) if key[0] in pictures]
    thumbnails: dict[tuple[str, int], Thumbnail] = {}
    room = MAX_BYTES
    for name, number in with_progress(wanted, total=len(wanted), label="pictures of mistakes"):
        thumbnail = Thumbnail(cause="the page is full")
        if number >= pictures[name].num_pictures:
            thumbnail = Thumbnail(cause="there is no such picture")
        elif room > 0:
            try:
                thumbnail = Thumbnail(address=small_copy(pictures[name].read(number)))
            except (BadSample, UserError, OSError) as error:
                # Hours of measuring are not lost for a picture that has gone since.
                thumbnail = Thumbnail(cause=short(error, 80))
        room -= len(thumbnail.address)
        thumbnails[name, number] = thumbnail
    return thumbnails


def _shown_pictures(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """Task and number of every picture that is shown, each once."""
    seen: dict[tuple[str, int], None] = {}
    for name in dict.fromkeys(result["name"] for result in results):
        shown = detailed_result([result for result in results if result["name"] == name])
        for mistake in shown_mistakes(shown):
            seen |= dict.fromkeys((name, number) for number in pictures_of(mistake))
    yield from seen


def shown_mistakes(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The worst mistakes of a result; of those with the same words only the worst: there may be dozens."""
    by_words: dict[tuple[str, str], Mapping[str, Any]] = {}
    for mistake in result.get("mistakes", []):
        by_words.setdefault((mistake["right"], mistake["given"]), mistake)
    return list(by_words.values())[:NUM_SHOWN]


def pictures_of(mistake: Mapping[str, Any]) -> list[int]:
    """The pictures of a mistake: the right one, and the one that was given in its place if there is."""
    numbers = [mistake["picture"], mistake.get("given_picture")]
    return [number for number in numbers if number is not None]


def detailed_result(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a task's results the one whose classes and mistakes are shown: the best of those that name
    any, by its first headline; of equal ones the last, which is the deepest as depths are usually given.
    """
    telling = [row for row in rows if row.get("mistakes") or row.get("per_class")] or rows
    headline = next((name for name in HEADLINES if name in telling[0]["metrics"]), None)
    if headline is None:
        return telling[-1]
    return max(reversed(telling), key=lambda row: row["metrics"].get(headline, -1.0))


def small_copy(picture: Picture) -> str:
    """A picture of at most 128 pixels a side, encoded anew as WebP, as a data: address.

    Raises UserError for a file that is not a picture.
    """
    image = rgb_image(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small copy of a picture, or why there is none."""

    address: str = ""
    """data: address; empty where there is a cause."""
    cause: str = ""
