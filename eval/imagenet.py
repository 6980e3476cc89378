"""ImageNet: its validation set with its own and with ReaL labels, and the sets made after it.

zero_shot:imagenet          1,000 classes, by synset
zero_shot:imagenet-real     the same pictures; right is each label of ReaL (arXiv 2006.07159)
zero_shot:imagenet-v2       1,000 classes; folders are called by class numbers (arXiv 1902.10811)
zero_shot:imagenet-sketch   1,000 classes (arXiv 1905.13549)
zero_shot:imagenet-a        200 classes (arXiv 1907.07174)
zero_shot:imagenet-r        200 classes (arXiv 2006.16241)

Lists of synsets and ReaL labels are read from timm; what classes are called, from `eval.prompts`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from data_pipelines.errors import UserError
from eval.label_files import GROUND_TRUTH, KAGGLE, LISTS, find_label_file
from eval.labelled_pictures import (
    LabelledPictures,
    in_class_folders,
    in_one_folder,
    in_one_tar,
    in_shards,
    is_picture_name,
)
from eval.outside_files import read_json, read_lines
from eval.prompts import DEFAULT_PROMPTS, imagenet_prompts
from eval.task_kinds import ZeroShotTask, no_pairs

ALL_SYNSETS = "imagenet_synsets.txt"
REAL_LABELS = "imagenet_real_labels.json"
NUM_VALIDATION = 50_000
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
KIT = "ILSVRC2012_devkit_t12/data"


@dataclass(frozen=True, kw_only=True)
class ImageNetSet:
    """One of the sets."""

    dataset: str
    """What CLIP_benchmark calls it."""
    synsets: str = ALL_SYNSETS
    """timm's list of its classes."""
    numbered: bool = False
    """Whether folders are called by the numbers of classes, not by synsets."""
    real: bool = False
    """Whether the labels are ReaL's."""
    folders: tuple[str, ...]
    """Where its class folders or shards may lie below --data, as archives unpack them."""


_VALIDATION_FOLDERS = ("val", "imagenet/val", "imagenet", "ILSVRC/Data/CLS-LOC/val")
SETS: dict[str, ImageNetSet] = {
    "zero_shot:imagenet": ImageNetSet(dataset="imagenet1k", folders=_VALIDATION_FOLDERS),
    "zero_shot:imagenet-real": ImageNetSet(
        dataset="imagenet1k-real", real=True, folders=_VALIDATION_FOLDERS
    ),
    "zero_shot:imagenet-v2": ImageNetSet(
        dataset="imagenetv2",
        numbered=True,
        folders=(
            "imagenetv2-matched-frequency-format-val",
            "ImageNetV2-matched-frequency",
            "imagenetv2",
            "imagenet-v2",
        ),
    ),
    "zero_shot:imagenet-sketch": ImageNetSet(
        dataset="imagenet_sketch", folders=("sketch", "imagenet-sketch", "imagenet_sketch")
    ),
    "zero_shot:imagenet-a": ImageNetSet(
        dataset="imagenet-a", synsets="imagenet_a_synsets.txt", folders=("imagenet-a",)
    ),
    "zero_shot:imagenet-r": ImageNetSet(
        dataset="imagenet-r", synsets="imagenet_r_synsets.txt", folders=("imagenet-r",)
    ),
}


def imagenet(name: str, data: Path | None) -> ZeroShotTask:
    """The task of that name with the usual prompts."""
    return imagenet_with(name, DEFAULT_PROMPTS, data)


def imagenet_with(name: str, choice: str, data: Path | None) -> ZeroShotTask:
    """The task of that name, or of its part before `choice`, one of `eval.prompts.PROMPTS`."""
    chosen = SETS[name.removesuffix(f":{choice}")]
    prompts = imagenet_prompts(choice)
    all_synsets, synsets = timm_synsets(ALL_SYNSETS), timm_synsets(chosen.synsets)
    kept = [all_synsets.index(synset) for synset in synsets]
    names = [str(number) for number in range(len(synsets))] if chosen.numbered else synsets
    if data is None:
        raise UserError(
            f"{name} needs --data PATH, a folder with one folder of pictures per "
            f"{'class number' if chosen.numbered else 'synset'}, such as PATH/{names[0]}"
        )
    labelled = _labelled(data, chosen, {class_name: n for n, class_name in enumerate(names)})
    labels, also_right, missing = torch.tensor(labelled.labels), no_pairs(), labelled.missing
    rule = (
        f"Candidates are {'all' if len(kept) == len(all_synsets) else 'the'} {len(kept):,} names of "
        f"the set; a class is the mean of its vectors, with {prompts.source}. A class with an equal "
        "score stands before the right one; of two classes with one name the first wins."
    )
    if chosen.real:
        labels, also_right, without = real_labels(labelled)
        missing = missing | without
        rule += " Right is each ReaL label of a picture; pictures without one do not count."
    sentences = prompts.class_sentences
    return ZeroShotTask(
        name=name,
        dataset=chosen.dataset,
        language=prompts.language,
        pictures=labelled.pictures,
        missing=missing,
        class_names=[prompts.class_names[number] for number in kept],
        templates=prompts.templates,
        class_sentences=sentences and [sentences[number] for number in kept],
        labels=labels,
        also_right=also_right,
        rule=rule,
        notes=labelled.absent(len(kept), data) + labelled.notes,
    )


def timm_synsets(file_name: str) -> list[str]:
    """A list of synsets that timm ships, in the order of class numbers."""
    return read_lines(_timm_file(file_name), "timm's list of synsets")


def _timm_file(file_name: str) -> Path:
    # The file alone: importing timm takes seconds.
    found = find_spec("timm")
    if found is None or not found.submodule_search_locations:
        raise UserError("lists of synsets come with timm; install it with pip install timm")
    return Path(found.submodule_search_locations[0]) / "data" / "_info" / file_name


def real_labels(
    labelled: LabelledPictures,
) -> tuple[Int64[Tensor, " N"], Int64[Tensor, "P 2"], dict[int, str]]:
    """A right class of each picture, (picture, class) for all others, and pictures without any.

    The first is ImageNet's own label where ReaL agrees with it. Raises UserError for a picture that
    is not called like one of the validation set: ReaL numbers them.
    """
    table = read_json(_timm_file(REAL_LABELS), "timm's ReaL labels")
    labels, pairs, without = [], [], {}
    for picture, (name, own) in enumerate(zip(labelled.names, labelled.labels, strict=True)):
        match = re.search(r"ILSVRC2012_val_(\d{8})", name)
        if match is None or not 1 <= int(match[1]) <= len(table):
            raise UserError(
                f"ReaL labels go by the names of the validation set, such as "
                f"ILSVRC2012_val_00000001.JPEG, and {name} has none; give pictures with their names"
            )
        right = table[int(match[1]) - 1]
        if not right:
            without[picture] = "no ReaL label"
        first = own if own in right else next(iter(right), own)
        labels.append(first)
        pairs += [(picture, other) for other in right if other != first]
    also_right = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return torch.tensor(labels), also_right, without


def _labelled(
    data: Path, chosen: ImageNetSet, class_of_name: Mapping[str, int]
) -> LabelledPictures:
    """The pictures below `data`, in whichever form they lie there."""
    if data.is_file():
        return in_one_tar(data, _label_file(data, [data.parent, data.parent / KIT]), class_of_name)
    if not data.is_dir():
        raise UserError(f"there is no folder {data}; give the one that holds {chosen.dataset}")
    roots = [root for root in (data, *(data / below for below in chosen.folders)) if root.is_dir()]
    for root in roots:
        if any(entry.name in class_of_name for entry in root.iterdir() if entry.is_dir()):
            return in_class_folders(root, class_of_name)
    by_labels = [data, *roots, data / KIT]
    if (data / VALIDATION_TAR).is_file():
        tar = data / VALIDATION_TAR
        return in_one_tar(tar, _label_file(tar, by_labels), class_of_name)
    for root in roots:
        shards = sorted(root.glob("*.tar"))
        if shards:
            return _in_shards(shards, len(class_of_name))
    for root in roots:
        if any(is_picture_name(entry.name) for entry in root.iterdir()):
            return in_one_folder(root, _label_file(root, by_labels), class_of_name)
    # It says what is there instead.
    return in_class_folders(data, class_of_name)


def _in_shards(shards: list[Path], num_classes: int) -> LabelledPictures:
    """Some folders hold the shards of training as well: those are left out, with a note."""
    kept = [shard for shard in shards if "train" not in shard.name] or shards
    labelled = in_shards(kept, num_classes)
    if len(kept) < len(shards):
        num_lost = len(shards) - len(kept)
        labelled.notes.append(f"{num_lost:,} shards with train in their names were left out")
    return labelled


def _label_file(pictures: Path, folders: list[Path]) -> Path:
    label_file = find_label_file(folders)
    if label_file is None:
        raise UserError(
            f"the pictures in {pictures} lie in no class folders, and no file beside them tells their "
            f"classes; put {KAGGLE}, {LISTS[0]} or {GROUND_TRUTH} with meta.mat there"
        )
    return label_file
