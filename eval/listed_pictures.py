"""Pictures that a list names: files below one folder, each whole or cut to a box."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.reader import read_picture_file
from eval.encoder import Picture
from eval.picture_sets import PictureSet

LISTED_TWICE = "listed twice"


def listed_pictures(
    folder: Path, listed: Sequence["ListedPicture"]
) -> tuple[PictureSet, dict[int, str]]:
    """The pictures in the order of the list, and for those that cannot be used the cause.

    "no such file", "outside the folder", or "listed twice" for all but the first of equal ones. The
    names come from other people's files, so none may lead out of the folder. Raises UserError where
    not one of the files is there.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give --data the folder of the pictures")
    causes: dict[int, str] = {}
    lines = []
    first: dict[ListedPicture, int] = {}
    for number, picture in enumerate(listed):
        path = folder / picture.name
        if first.setdefault(picture, number) != number:
            causes[number] = LISTED_TWICE
        elif not _is_below(picture.name):
            causes[number] = "outside the folder"
        # Not Path.is_file, which raises an error for names that are too long.
        elif not os.path.isfile(path):
            causes[number] = "no such file"
        size = path.stat().st_size if number not in causes else -1
        lines.append(f"{picture.name} {picture.box} {size}")
    usable = len(listed) - len(causes)
    if not usable:
        example = f"; the first would be {folder / listed[0].name}" if listed else ""
        raise UserError(
            f"none of the {len(listed):,} listed pictures is in {folder}{example}; "
            "give --data the folder that their names begin in"
        )
    pictures = PictureSet(
        fingerprint=hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest(),
        num_pictures=len(listed),
        read=lambda number: _read(folder, listed[number], causes.get(number)),
    )
    # A copy: a task adds causes of its own, for which its pictures can be read nonetheless.
    return pictures, dict(causes)


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _read(folder: Path, picture: "ListedPicture", cause: str | None) -> Picture:
    if cause is not None:
        raise BadSample(cause)
    pixels = decode_picture(read_picture_file(folder / picture.name))
    if picture.box is None:
        return pixels
    left, top, width, height = picture.box
    # What of the box lies beyond the picture's border is left out, not filled with black.
    inside = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.size == 0:
        raise BadSample("box outside the picture")
    return inside.copy()


class ListedPicture(NamedTuple):
    """A picture as a list names it."""

    name: str
    """Where it lies below the folder, with forward slashes."""
    box: tuple[int, int, int, int] | None = None
    """Left, top, width and height in pixels of the part that is shown; None: all of it."""
