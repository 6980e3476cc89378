"""Pictures of known classes to learn from and to be tested on.

probe:emoji                      groups of emoji, tested on families that training never saw
probe:folders:TRAIN:TEST         two folders, each with a folder of pictures per class
probe:wds:FOLDER                 the splits train and test of a set in CLIP_benchmark's layout
"""

from pathlib import Path

import torch

from data_pipelines.captions import Record
from data_pipelines.errors import UserError
from eval.labelled_pictures import (
    LabelledPictures,
    class_folder_names,
    in_class_folders,
    in_shards,
)
from eval.logistic import MOST_STEPS
from eval.outside_files import named_path, read_lines
from eval.picture_sets import PictureSet, shard_pictures
from eval.probe import HELD_OUT_EVERY, INVERSE_PENALTIES, NEIGHBOURS, TEMPERATURE
from eval.task_kinds import ProbeTask
from eval.wds_folders import shards_of

EMOJI_GROUPS = (
    "activities", "animals-nature", "flags", "food-drink", "objects", "people-body",
    "smileys-emotion", "symbols", "travel-places",
)  # fmt: skip
"""Unicode's groups; the other groups of the pack are leftovers without a common meaning."""
RULE = (
    f"Linear probe: logistic regression on unit vectors in at most {MOST_STEPS:,} steps; C, from "
    f"{INVERSE_PENALTIES[0]:g} to {INVERSE_PENALTIES[-1]:g}, is chosen on one picture in "
    f"{HELD_OUT_EVERY} of each class, then all are learned. k-NN: {NEIGHBOURS} neighbours by cosine, weights "
    f"exp(cosine / {TEMPERATURE}). Ties count as misses. Chance is the class most frequent in training."
)


def emoji_probe(name: str, data: Path | None) -> ProbeTask:
    """The group of an emoji, learned from emoji:train and tested on emoji:test.

    One skin tone of each: over half of the pack is people in five more tones.
    """
    train_pictures, train_records, train_missing = shard_pictures(["emoji:train"])
    pictures, records, missing = shard_pictures(["emoji:test"])
    return ProbeTask(
        name=name,
        dataset="emoji-groups",
        pictures=pictures,
        labels=_groups(pictures, records, missing),
        missing=missing,
        train_pictures=train_pictures,
        train_labels=_groups(train_pictures, train_records, train_missing),
        train_missing=train_missing,
        class_names=list(EMOJI_GROUPS),
        rule=RULE,
    )


def folder_probe(name: str, spec: str, data: Path | None) -> ProbeTask:
    """The class folders of two folders: probe:folders:TRAIN:TEST.

    The classes are the folders in TRAIN; one in TEST that is none of them is a UserError.
    """
    named = spec.split(":")
    if len(named) != 2 or not all(named):
        raise UserError(f"{name} names no two folders; write probe:folders:TRAIN:TEST")
    train, test = (named_path(path, data) for path in named)
    class_names = class_folder_names(train)
    if len(class_names) < 2:
        raise UserError(f"{train} holds {len(class_names)} class folders; a probe needs two")
    number_of = {class_name: number for number, class_name in enumerate(class_names)}
    learned, asked = (in_class_folders(folder, number_of) for folder in (train, test))
    return _labelled(name, test.name, class_names, learned, asked)


def wds_probe(name: str, spec: str, data: Path | None) -> ProbeTask:
    """A classification set in CLIP_benchmark's layout: probe:wds:FOLDER.

    Learned from the shards in FOLDER/train, tested on those in FOLDER/test.
    """
    folder = named_path(spec, data)
    class_names = read_lines(folder / "classnames.txt", "names of classes")
    splits = (in_shards(shards_of(folder / split), len(class_names)) for split in ("train", "test"))
    return _labelled(name, folder.name, class_names, *splits)


def _labelled(
    name: str,
    dataset: str,
    class_names: list[str],
    learned: LabelledPictures,
    asked: LabelledPictures,
) -> ProbeTask:
    return ProbeTask(
        name=name,
        dataset=dataset,
        pictures=asked.pictures,
        labels=torch.tensor(asked.labels),
        missing=asked.missing,
        train_pictures=learned.pictures,
        train_labels=torch.tensor(learned.labels),
        train_missing=learned.missing,
        class_names=class_names,
        notes=asked.notes + learned.notes,
        rule=RULE,
    )


def _groups(
    pictures: PictureSet, records: dict[int, Record], missing: dict[int, str]
) -> torch.Tensor:
    """The group of each picture; those without get a cause in `missing`."""
    labels = torch.zeros(pictures.num_pictures, dtype=torch.int64)
    for number, record in records.items():
        if record["group"] not in EMOJI_GROUPS:
            missing[number] = "in none of the groups"
        elif record["label"] != record["positive_key"]:
            missing[number] = "another skin tone"
        else:
            labels[number] = EMOJI_GROUPS.index(record["group"])
    return labels
