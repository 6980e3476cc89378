"""Files that appear under their name when they are finished, and never replace others unasked."""

import os
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.errors import UserError


def refuse_existing(paths: Sequence[Path | None], *, overwrite: bool) -> None:
    """Raise UserError when one of the files exists, before hours are spent on its content."""
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise UserError(
                f"{path} exists already; give --overwrite to replace it, or another path"
            )


def write_whole(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file whole or not at all. Raises UserError where it exists already."""
    refuse_existing([path], overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # In a folder of somebody else a link may lie there for every number of a process.
    unfinished.unlink(missing_ok=True)
    try:
        # A key or a caption from outside may hold half a surrogate pair.
        with unfinished.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
