"""Folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipelines.errors import UserError
from rins_mm.checkpoint import MANIFEST


@contextmanager
def new_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder to fill, which becomes `out` when the block ends well, and vanishes when it fails.

    With `overwrite` an earlier export is replaced; anything else that stands there is a UserError.
    """
    out = out.resolve()
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists already; add --overwrite or choose another --out")
    if out.exists() and not _is_export(out):
        raise UserError(f"{out} is no export, so it is not replaced; choose another --out")
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def export_folders(folder: Path) -> list[Path]:
    """The folders of single formats: this one, or those in it."""
    if (folder / MANIFEST).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _is_export(folder: Path) -> bool:
    """Whether this is one format's folder, or holds such folders and nothing else."""
    if (folder / MANIFEST).is_file():
        return any((folder / name).is_file() for name in ("encoder.json", "parity.json"))
    inside = list(folder.iterdir()) if folder.is_dir() else []
    return bool(inside) and all((path / "parity.json").is_file() for path in inside)
