"""Pictures and their classes, in each form in which classification sets are passed around.

A folder for each class; one folder or one raw tar with a label file; WebDataset shards whose samples
have a .cls beside the picture.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.grouping import key_as_text
from data_pipelines.tar import Member
from eval.label_files import picture_stem, read_label_file
from eval.picture_sets import (
    MAX_FILES,
    PICTURE_SUFFIXES,
    PictureSet,
    file_pictures,
    files_below,
    tar_pictures,
)
from eval.tar_files import TarFile, TarSample, open_tar, tar_samples


@dataclass(frozen=True, kw_only=True)
class LabelledPictures:
    """Pictures, and the class of each."""

    pictures: PictureSet
    names: list[str]
    """What each is called where it lies, for messages and for labels that go by names."""
    labels: list[int]
    missing: dict[int, str] = field(default_factory=dict)
    """Pictures whose class is not known, by cause."""
    notes: list[str] = field(default_factory=list)

    def absent(self, num_classes: int, where: Path) -> list[str]:
        """A note on the classes that have no picture; none where all have."""
        seen = {label for n, label in enumerate(self.labels) if n not in self.missing}
        num_absent = num_classes - len(seen)
        if not num_absent:
            return []
        return [f"{num_absent:,} of the {num_classes:,} classes have no pictures in {where}"]


def in_class_folders(
    folder: Path, class_of_name: Mapping[str, int], left_out: Collection[str] = ()
) -> LabelledPictures:
    """The pictures below FOLDER/CLASS/, sorted by class folder and file name.

    Every file there counts as a picture; those that are none are found and counted when they are
    read. Folders in `left_out` are passed over, with a note. Raises UserError for others that are no
    class, and where there is nothing.
    """
    class_folders = _class_folders(folder, class_of_name, left_out)
    found = [entry for entry in class_folders if entry.name in class_of_name]
    files: list[tuple[Path, int]] = []
    for entry in found:
        below = files_below(entry, MAX_FILES - len(files))
        files += [(file, class_of_name[entry.name]) for file in below]
    if not files:
        raise UserError(f"the class folders in {folder} are empty; put the pictures in them")
    num_left_out = len(class_folders) - len(found)
    return LabelledPictures(
        pictures=file_pictures(folder, [file for file, _ in files]),
        names=[str(file.relative_to(folder)) for file, _ in files],
        labels=[label for _, label in files],
        notes=[f"{num_left_out:,} folders are no class of this task and were left out"]
        if num_left_out
        else [],
    )


def class_folder_names(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that holds a folder per class")
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


def _class_folders(
    folder: Path, class_of_name: Mapping[str, int], left_out: Collection[str]
) -> list[Path]:
    names = class_folder_names(folder)
    example = next(iter(class_of_name))
    unknown = [name for name in names if name not in class_of_name and name not in left_out]
    if unknown:
        known = len(names) - len(unknown)
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if unknown[5:] else "")
        raise UserError(
            f"{len(unknown)} of the folders in {folder} are no class of this task: {shown} "
            f"({known} are); name the folder whose folders are called like {example}"
        )
    if not names:
        raise UserError(
            f"{folder} holds no class folders; name the folder whose folders are called like {example}"
        )
    return [folder / name for name in names]


def in_one_folder(
    folder: Path, label_file: Path, class_of_synset: Mapping[str, int]
) -> LabelledPictures:
    """The pictures that lie in one folder side by side, with the classes of a label file."""
    files = [file for file in sorted(folder.iterdir()) if is_picture_name(file.name)]
    names = [file.name for file in files]
    labels, notes = _labels_of(names, folder, label_file, class_of_synset)
    return LabelledPictures(
        pictures=file_pictures(folder, files), names=names, labels=labels, notes=notes
    )


def in_one_tar(
    path: Path, label_file: Path, class_of_synset: Mapping[str, int]
) -> LabelledPictures:
    """The pictures in a tar, sorted by name and read in place, with the classes of a label file."""
    tar = open_tar(path)
    named = sorted((key_as_text(member.name), member) for member in tar.members)
    found = [(name, member) for name, member in named if is_picture_name(name)]
    names = [name for name, _ in found]
    labels, notes = _labels_of(names, path, label_file, class_of_synset)
    return LabelledPictures(
        pictures=tar_pictures([(tar, member) for _, member in found]),
        names=names,
        labels=labels,
        notes=notes + tar.notes,
    )


def is_picture_name(name: str) -> bool:
    """Whether a file is called like a picture."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(PICTURE_SUFFIXES) and not last.startswith(".")


def _labels_of(
    names: Sequence[str], where: Path, label_file: Path, class_of_synset: Mapping[str, int]
) -> tuple[list[int], list[str]]:
    """The class of each picture, and notes. Raises UserError where one cannot be told."""
    synset_of = read_label_file(label_file)
    stems = [picture_stem(name) for name in names]
    if not stems:
        raise UserError(f"{where} holds no pictures; give the tar or folder that has them")
    counts = Counter(stems)
    if len(counts) < len(stems):
        twice = next(stem for stem, count in counts.items() if count > 1)
        raise UserError(f"{where} holds several pictures called {twice}; labels go by names")
    unlabelled = [name for name, stem in zip(names, stems, strict=True) if stem not in synset_of]
    if unlabelled:
        raise UserError(
            f"{len(unlabelled):,} of the {len(names):,} pictures in {where} are not in "
            f"{label_file}, such as {unlabelled[0]}; give the label file of these pictures"
        )
    unknown = sorted({synset_of[stem] for stem in stems} - class_of_synset.keys())
    if unknown:
        raise UserError(
            f"{len(unknown):,} of the synsets in {label_file} are no class of this task, such as "
            f"{unknown[0]}; give the labels of this set"
        )
    notes = [f"classes are those in {label_file}"]
    if len(synset_of) > len(stems):
        num_lost = len(synset_of) - len(stems)
        notes.append(f"{num_lost:,} of the {len(synset_of):,} pictures in it are not in {where}")
    return [class_of_synset[synset_of[stem]] for stem in stems], notes


def in_shards(shards: Sequence[Path], num_classes: int) -> LabelledPictures:
    """The samples of WebDataset shards: a picture, and in .cls the number of its class.

    Samples without either are counted as missing. Raises UserError for numbers that are no class.
    """
    places: list[tuple[TarFile, Member | None]] = []
    names: list[str] = []
    labels: list[int] = []
    missing: dict[int, str] = {}
    tars = [open_tar(shard) for shard in shards]
    for tar in tars:
        for sample in tar_samples(tar):
            number = len(labels)
            places.append((tar, sample.picture))
            names.append(f"{tar.path.name}/{sample.key}")
            labels.append(0)
            try:
                labels[number] = _class_number(sample, num_classes)
            except BadSample as bad:
                missing[number] = bad.cause
    if len(missing) == len(labels):
        raise UserError(
            f"no sample in {shards[0]} has a class ({next(iter(missing.values()), 'no samples')}); "
            "give shards whose samples hold a picture and a .cls"
        )
    return LabelledPictures(
        pictures=tar_pictures(places),
        names=names,
        labels=labels,
        missing=missing,
        notes=[note for tar in tars for note in tar.notes],
    )


def _class_number(sample: TarSample, num_classes: int) -> int:
    text = sample.text("cls").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < num_classes):
        raise UserError(
            f"the class of {sample.key} in {sample.tar.path} is {text[:20]!r}; this task has classes "
            f"0 to {num_classes - 1:,}: give its own shards"
        )
    return int(text)
