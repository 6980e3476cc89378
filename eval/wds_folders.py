"""CLIP_benchmark's WebDataset folders: https://huggingface.co/clip-benchmark has more than a hundred.

wds:FOLDER   the kind of the task is read from the folder

    test/0.tar, test/1.tar, …                 samples: a picture, and .cls (a class number) or .txt
    test/nshards.txt                          optional: how many tars there are
    classnames.txt                            a name a line; the first is that of class 0
    zeroshot_classification_templates.txt     a sentence a line, with {c} where the name goes
    dataset_type.txt                          optional: classification or retrieval
"""

from pathlib import Path

import torch

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.tar import Member
from eval.classification_sets import templates_in
from eval.labelled_pictures import in_shards
from eval.outside_files import named_path, read_lines, read_text
from eval.picture_sets import tar_pictures
from eval.tar_files import TarFile, open_tar, tar_samples
from eval.task_kinds import RetrievalTask, ZeroShotTask

TEST = "test"


def wds_folder(
    name: str, spec: str, data: Path | None, split: str = TEST
) -> ZeroShotTask | RetrievalTask:
    """The task in a folder of this layout: classification or retrieval."""
    folder = named_path(spec, data)
    if not folder.is_dir():
        raise UserError(f"{name}: there is no folder {folder}; give one that holds {split}/0.tar")
    kind = _kind(folder)
    shards = shards_of(folder / split)
    if kind == "retrieval":
        return _retrieval(name, folder, shards)
    if kind == "classification":
        return _classification(name, folder, shards)
    if kind == "multilabel":
        raise UserError(
            f"{name}: {folder} is a set with several labels for each picture, which is not scored "
            "here; give a set for classification or retrieval"
        )
    raise UserError(
        f"{name}: dataset_type.txt in {folder} says {kind[:30]!r}; write classification or retrieval"
    )


def shards_of(folder: Path) -> list[Path]:
    """The tars of one split in the order of their numbers.

    Raises UserError when there are none, or fewer or more than nshards.txt says.
    """
    found = [path for path in folder.glob("*.tar") if not path.name.startswith(".")]
    if not found:
        raise UserError(f"{folder} holds no shards; put 0.tar, 1.tar and so on there")
    # As numbers: "10" stands before "2" in the alphabet.
    shards = sorted(found, key=lambda path: (path.stem.zfill(20), path.name))
    count_file = folder / "nshards.txt"
    if count_file.is_file():
        said = read_text(count_file, "the number of shards").strip()
        if said != str(len(shards)):
            raise UserError(
                f"{count_file} says {said[:20]!r}, but {folder} holds {len(shards):,} shards; copy "
                "the set again, or mend the number"
            )
    return shards


def _kind(folder: Path) -> str:
    type_file = folder / "dataset_type.txt"
    if type_file.is_file():
        return read_text(type_file, "the kind of the data set").strip().lower()
    return "classification" if (folder / "classnames.txt").is_file() else "retrieval"


def _classification(name: str, folder: Path, shards: list[Path]) -> ZeroShotTask:
    class_names = read_lines(folder / "classnames.txt", "names of classes")
    templates, sentences = templates_in(folder)
    labelled = in_shards(shards, len(class_names))
    return ZeroShotTask(
        name=name,
        dataset=folder.name,
        pictures=labelled.pictures,
        missing=labelled.missing,
        class_names=class_names,
        templates=templates,
        labels=torch.tensor(labelled.labels),
        rule=(
            f"Candidates are the {len(class_names):,} names in classnames.txt; a class is the mean of "
            f"its vectors in {sentences}. A class with an equal score stands before the right one; "
            "of two classes with one name the first wins."
        ),
        notes=labelled.absent(len(class_names), folder) + labelled.notes,
    )


def _retrieval(name: str, folder: Path, shards: list[Path]) -> RetrievalTask:
    texts: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    missing: dict[int, str] = {}
    places: list[tuple[TarFile, Member | None]] = []
    tars = [open_tar(shard) for shard in shards]
    for tar in tars:
        for sample in tar_samples(tar):
            number = len(places)
            places.append((tar, sample.picture))
            try:
                captions = [line.strip() for line in sample.text("txt").split("\n")]
            except BadSample as bad:
                missing[number] = bad.cause
                continue
            if not any(captions):
                missing[number] = "empty caption"
            pairs |= {(number, texts.setdefault(line, len(texts))) for line in captions if line}
    if not pairs:
        raise UserError(
            f"{name}: no sample in {shards[0].parent} has a caption, and {folder} has no "
            "classnames.txt; give a folder in CLIP_benchmark's layout"
        )
    return RetrievalTask(
        name=name,
        dataset=folder.name,
        pictures=tar_pictures(places),
        missing=missing,
        texts=list(texts),
        right_pairs=torch.tensor(sorted(pairs), dtype=torch.int64),
        rule=(
            "Each line of a sample's txt is a text. Candidates are all distinct texts, or all "
            "pictures. A picture is found by any of its texts, a text by any picture that has it. "
            "Ties count as misses."
        ),
        notes=[note for tar in tars for note in tar.notes],
    )
