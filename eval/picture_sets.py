"""Pictures to score, numbered from 0: the samples of shards, or the files of a folder per class."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from data_pipelines.reader import read_sample
from data_pipelines.samples import decoded_sample
from eval.encoder import Picture


def shard_pictures(
    specs: Sequence[str],
) -> tuple["PictureSet", dict[int, Record], dict[int, str]]:
    """The pictures of shards; for each sample number what its json and txt say; and for each sample
    whose texts cannot be read the cause.
    """
    dataset = open_dataset(specs)
    records: dict[int, Record] = {}
    causes: dict[int, str] = {}
    for number in range(dataset.num_samples):
        try:
            records[number] = read_record(read_sample(dataset, number).parts)
        except BadSample as error:
            causes[number] = error.cause
    pictures = PictureSet(
        fingerprint=dataset.fingerprint,
        num_pictures=dataset.num_samples,
        read=lambda number: decoded_sample(dataset, number)[0],
    )
    return pictures, records, causes


def folder_pictures(
    folder: Path, class_of_name: Mapping[str, int]
) -> tuple["PictureSet", list[int]]:
    """The pictures below FOLDER/CLASS/, sorted by class folder and file name, and the class of each.

    Every file there counts as a picture; those that are none are found and counted when they are
    read. Raises UserError for folders that are no class, and where there is nothing.
    """
    class_folders = _class_folders(folder, class_of_name)
    files = [
        (file, class_of_name[class_folder.name])
        for class_folder in class_folders
        for file in sorted(class_folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise UserError(f"the class folders in {folder} are empty; put the pictures in them")
    listing = "\n".join(f"{file.relative_to(folder)} {file.stat().st_size}" for file, _ in files)
    pictures = PictureSet(
        fingerprint=hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest(),
        num_pictures=len(files),
        read=lambda number: _file_pixels(files[number][0]),
    )
    return pictures, [label for _, label in files]


def _class_folders(folder: Path, class_of_name: Mapping[str, int]) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that holds a folder per class")
    found = sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    example = next(iter(class_of_name))
    unknown = [entry.name for entry in found if entry.name not in class_of_name]
    if unknown:
        known = len(found) - len(unknown)
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if unknown[5:] else "")
        raise UserError(
            f"{len(unknown)} of the folders in {folder} are no class of this task: {shown} "
            f"({known} are); name the folder whose folders are called like {example}"
        )
    if not found:
        raise UserError(
            f"{folder} holds no class folders; name the folder whose folders are called like {example}"
        )
    return found


def _file_pixels(path: Path) -> Picture:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSample("unreadable file") from error
    return decode_picture(data)


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures that can be read one by one, in any order and from any thread."""

    fingerprint: str
    """A hash of what is in it: names, and contents or sizes. Sets with one hash are embedded once."""
    num_pictures: int
    read: Callable[[int], Picture]
    """The picture of a number. Raises BadSample where it cannot be decoded."""
