"""Pictures of known classes to learn from and to be tested on.

probe:emoji                      groups of emoji, tested on families that training never saw
probe:folders:TRAIN:TEST         two folders, each with a folder of pictures per class
"""

from pathlib import Path

import torch

from data_pipelines.captions import Record
from data_pipelines.errors import UserError
from eval.logistic import MOST_STEPS
from eval.picture_sets import PictureSet, folder_pictures, shard_pictures
from eval.probe import HELD_OUT_EVERY, INVERSE_PENALTIES, NEIGHBOURS, TEMPERATURE
from eval.task_kinds import ProbeTask
from eval.task_paths import path_of

EMOJI_GROUPS = (
    "activities", "animals-nature", "flags", "food-drink", "objects", "people-body",
    "smileys-emotion", "symbols", "travel-places",
)  # fmt: skip
"""Unicode's groups; the other groups of the pack are leftovers without a common meaning."""
RULE = (
    f"Linear probe: logistic regression on unit vectors, C of {INVERSE_PENALTIES[0]:g} to "
    f"{INVERSE_PENALTIES[-1]:g} by one picture in {HELD_OUT_EVERY} of each class, then fitted to all, "
    f"in at most {MOST_STEPS:,} steps. k-NN: {NEIGHBOURS} neighbours by cosine, weights "
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
    train, test = (path_of(path, data) for path in named)
    if not train.is_dir():
        raise UserError(f"there is no folder {train}; name one that holds a folder per class")
    class_names = sorted(
        entry.name for entry in train.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if len(class_names) < 2:
        raise UserError(f"{train} holds {len(class_names)} class folders; a probe needs two")
    number_of = {class_name: number for number, class_name in enumerate(class_names)}
    train_pictures, train_labels = folder_pictures(train, number_of)
    pictures, labels = folder_pictures(test, number_of)
    return ProbeTask(
        name=name,
        dataset=test.name,
        pictures=pictures,
        labels=torch.tensor(labels),
        train_pictures=train_pictures,
        train_labels=torch.tensor(train_labels),
        class_names=class_names,
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
