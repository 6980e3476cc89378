"""Which synset each picture of ImageNet's validation set has, from the files that tell it.

The pictures of ILSVRC2012_img_val.tar lie in no class folders. These files are read, the first that
is there:

LOC_val_solution.csv   Kaggle's: "ImageId,PredictionString", then "ILSVRC2012_val_00048981,n03995372 85 1 …"
val.txt, labels.txt, imagenet2012_val_synset_codes.txt
                       lines of "ILSVRC2012_val_00000001.JPEG n01751748"
ILSVRC2012_validation_ground_truth.txt
                       the development kit's, with its meta.mat beside it
"""

import csv
import re
import zlib
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from eval.outside_files import read_lines, read_text

KAGGLE = "LOC_val_solution.csv"
LISTS = ("val.txt", "labels.txt", "imagenet2012_val_synset_codes.txt")
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
MAX_MAT_BYTES = 16 * 2**20
"""Of meta.mat; also of what it unpacks to: it describes some 1,860 synsets."""

_SYNSET = re.compile(r"n\d{8}")


def find_label_file(folders: list[Path]) -> Path | None:
    """The first label file in the first of the folders that has one."""
    names = (KAGGLE, *LISTS, GROUND_TRUTH)
    return next(
        (folder / name for folder in folders for name in names if (folder / name).is_file()), None
    )


def read_label_file(path: Path) -> dict[str, str]:
    """The synset of each picture by its name without a suffix, as ILSVRC2012_val_00000001.

    Raises UserError for a line that says something else, and for a picture that is named twice.
    """
    if path.name == GROUND_TRUTH:
        return _ground_truth(path)
    rows = _kaggle_rows(path) if path.name == KAGGLE else _list_rows(path)
    synsets: dict[str, str] = {}
    for number, (picture, synset) in rows:
        if not _SYNSET.fullmatch(synset):
            raise UserError(
                f"line {number:,} of {path} gives {picture} the class {synset[:20]!r}, which is no "
                "synset like n01751748; numbers are not read, since lists number classes in "
                "several orders: write synsets"
            )
        name = picture_stem(picture)
        if name in synsets:
            raise UserError(
                f"line {number:,} of {path} names {picture} a second time; name each picture once"
            )
        synsets[name] = synset
    return synsets


def picture_stem(name: str) -> str:
    """The last part of a file's name up to its first dot."""
    return name.rpartition("/")[2].partition(".")[0]


def _list_rows(path: Path) -> list[tuple[int, tuple[str, str]]]:
    rows = []
    for number, line in enumerate(read_lines(path, "labels"), 1):
        words = line.split()
        if len(words) != 2:
            raise UserError(
                f"line {number:,} of {path} is {line[:60]!r}; write a picture and its synset in "
                "each, as ILSVRC2012_val_00000001.JPEG n01751748"
            )
        rows.append((number, (words[0], words[1])))
    return rows


def _kaggle_rows(path: Path) -> list[tuple[int, tuple[str, str]]]:
    try:
        lines = list(csv.reader(read_text(path, "labels").splitlines()))
    except csv.Error as error:
        raise UserError(
            f"{path} is no table ({error}); take the file as it was downloaded"
        ) from error
    if not lines or lines[0] != ["ImageId", "PredictionString"]:
        raise UserError(
            f"{path} does not begin with ImageId,PredictionString as Kaggle's file does; "
            "take the file as it was downloaded"
        )
    rows = []
    for number, fields in enumerate(lines[1:], 2):
        # A synset and four corners for each object, all of one synset.
        words = fields[1].split() if len(fields) == 2 else []
        if not words or len(words) % 5 or len(set(words[::5])) > 1:
            raise UserError(
                f"line {number:,} of {path} is not a picture and boxes of one synset; "
                "take the file as it was downloaded"
            )
        rows.append((number, (fields[0], words[0])))
    return rows


def _ground_truth(path: Path) -> dict[str, str]:
    """The kit numbers classes by an order of its own, which only its meta.mat tells."""
    meta = path.with_name("meta.mat")
    if not meta.is_file():
        raise UserError(
            f"{path} numbers classes by ILSVRC2012_ID, in an order that only the development kit's "
            f"meta.mat tells; put that beside it, or a {KAGGLE}"
        )
    synset_of = _synsets_of_kit(meta)
    synsets = {}
    for number, line in enumerate(read_lines(path, "labels"), 1):
        if line not in synset_of:
            raise UserError(
                f"line {number:,} of {path} is {line[:20]!r}, which is no class in {meta.name}; "
                "take both files from one kit"
            )
        synsets[f"ILSVRC2012_val_{number:08d}"] = synset_of[line]
    return synsets


def _synsets_of_kit(meta: Path) -> dict[str, str]:
    """The synset of each ILSVRC2012_ID, for those without children: the classes."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(
            f"reading {meta} needs the package scipy; install it with pip install scipy, "
            f"or put a {KAGGLE} there"
        ) from error
    try:
        _refuse_large(meta)
        rows: Any = loadmat(meta, squeeze_me=True, variable_names=["synsets"])["synsets"]
        table = {
            str(int(row["ILSVRC2012_ID"])): str(row["WNID"])
            for row in rows
            if int(row["num_children"]) == 0
        }
    except UserError:
        raise
    # A parser of C structures meets hostile bytes with nearly any exception there is.
    except Exception as error:
        raise UserError(
            f"{meta} is not the development kit's ({type(error).__name__}); take it from "
            "ILSVRC2012_devkit_t12.tar.gz"
        ) from error
    return table


def _refuse_large(meta: Path) -> None:
    """Raise a UserError for a file that unpacks to more than such a file needs.

    After a header of 128 bytes come elements of a type (15: packed), a length, and as many bytes.
    """
    size = meta.stat().st_size
    unpacked = size
    if size <= MAX_MAT_BYTES:
        data = meta.read_bytes()
        at = 128
        while at + 8 <= size and unpacked <= MAX_MAT_BYTES:
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            if int.from_bytes(data[at : at + 4], "little") == 15:
                packed, most = zlib.decompressobj(), MAX_MAT_BYTES + 1 - unpacked
                unpacked += len(packed.decompress(data[at + 8 : at + 8 + length], most))
            at += 8 + length
    if unpacked > MAX_MAT_BYTES:
        raise UserError(
            f"{meta} unpacks to more than {MAX_MAT_BYTES:,} bytes; take the development kit's"
        )
