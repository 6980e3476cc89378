"""ObjectNet: everyday things from odd sides (https://objectnet.dev), as its archive unpacks.

zero_shot:objectnet   the classes that ImageNet has as well, 113 of 313

Which those are is told by the archive's own mappings/: `objectnet_to_imagenet_1k.json` lists them by
label, and `folder_to_objectnet_label.json` gives the label of each folder in images/. Each picture
has a red border, so that models that were trained on it can be told; two pixels are cut off at each
edge, as ObjectNet's own example code does.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from data_pipelines.errors import UserError
from eval.labelled_pictures import in_class_folders
from eval.outside_files import read_string_table
from eval.picture_sets import without_border
from eval.prompts import openai_templates
from eval.task_kinds import ZeroShotTask

BORDER = 2
"""Pixels at each edge."""
ROOTS = (".", "objectnet-1.0", "objectnet", "objectnet/objectnet-1.0")


def objectnet(name: str, data: Path | None) -> ZeroShotTask:
    """The task over the overlapping classes."""
    if data is None:
        raise UserError(
            f"{name} needs --data PATH, the folder of ObjectNet's archive that holds images/ and mappings/"
        )
    root = next((data / at for at in ROOTS if (data / at / "mappings").is_dir()), None)
    if root is None:
        raise UserError(
            f"{data} holds no mappings/; give the folder of ObjectNet's archive that holds images/ "
            "and mappings/"
        )
    label_of = read_string_table(
        root / "mappings" / "folder_to_objectnet_label.json", "ObjectNet's labels"
    )
    overlap = read_string_table(
        root / "mappings" / "objectnet_to_imagenet_1k.json", "ObjectNet's overlap"
    )
    folders = _overlapping_folders(label_of, overlap, root)
    labelled = in_class_folders(
        root / "images",
        {folder: number for number, folder in enumerate(folders)},
        left_out=label_of.keys() - set(folders),
    )
    templates = openai_templates()
    return ZeroShotTask(
        name=name,
        dataset="objectnet",
        pictures=without_border(labelled.pictures, BORDER),
        class_names=[label_of[folder].lower() for folder in folders],
        templates=templates,
        labels=torch.tensor(labelled.labels),
        rule=(
            f"Candidates are ObjectNet's own names of the {len(folders):,} classes that ImageNet has "
            f"as well; a class is the mean of its vectors in OpenAI's {len(templates)} sentences. A "
            f"class with an equal score stands before the right one. {BORDER} pixels are cut off at "
            "each edge."
        ),
        notes=labelled.absent(len(folders), root) + labelled.notes,
    )


def _overlapping_folders(
    label_of: Mapping[str, str], overlap: Mapping[str, str], root: Path
) -> list[str]:
    """The folders of the classes that ImageNet has, sorted."""
    folders_of: dict[str, list[str]] = {}
    for folder, label in label_of.items():
        folders_of.setdefault(label, []).append(folder)
    unclear = [label for label in overlap if len(folders_of.get(label, [])) != 1]
    if unclear or not overlap:
        raise UserError(
            f"the two tables in {root}/mappings do not fit: {unclear[:3]} of the overlap have no or "
            "several folders; take both from one archive"
        )
    return sorted(folders_of[label][0] for label in overlap)
