"""Classification sets: the emoji that training never saw, and anybody's class folders.

zero_shot:emoji-style        names for the drawings of a style that training never saw
zero_shot:folders:FOLDER     FOLDER/CLASS/… for any classes

Beside the class folders may lie `classnames.txt` (a name a line, in the order of the folders) or
`classnames.json` ({"folder": "name"}), and `templates.txt` (sentences with {} or {c}).
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from data_pipelines.errors import UserError
from eval.labelled_pictures import class_folder_names, in_class_folders
from eval.outside_files import named_path, read_lines, read_string_table
from eval.picture_sets import shard_pictures
from eval.prompts import openai_templates
from eval.task_kinds import ZeroShotTask

NAME_ALONE = ("{}",)
TEMPLATE_FILES = ("templates.txt", "zeroshot_classification_templates.txt")


def emoji_style(name: str, data: Path | None) -> ZeroShotTask:
    """The drawings of the style that is kept from training."""
    pictures, records, missing = shard_pictures(["emoji:style"])
    class_names = sorted({record["positive_key"] for record in records.values()})
    number_of = {class_name: number for number, class_name in enumerate(class_names)}
    labels = [
        number_of[records[n]["positive_key"]] if n in records else 0
        for n in range(pictures.num_pictures)
    ]
    return ZeroShotTask(
        name=name,
        dataset="emoji-style",
        pictures=pictures,
        missing=missing,
        class_names=class_names,
        templates=NAME_ALONE,
        labels=torch.tensor(labels),
        rule=(
            "Classes are all names in the style, without skin tones; a class is the vector of its "
            "name alone. A class with an equal score stands before the right one."
        ),
    )


def class_folders(name: str, spec: str, data: Path | None) -> ZeroShotTask:
    """A task over any folder of class folders."""
    folder = named_path(spec, data)
    order = _in_order(class_folder_names(folder))
    if not order:
        raise UserError(f"{folder} holds no class folders; name a folder with one for each class")
    name_of, source = _class_names(folder, order)
    class_of_folder = {class_folder: number for number, class_folder in enumerate(name_of)}
    labelled = in_class_folders(folder, class_of_folder)
    templates, sentences = templates_in(folder)
    class_names = list(name_of.values())
    return ZeroShotTask(
        name=name,
        dataset=folder.name,
        pictures=labelled.pictures,
        class_names=class_names,
        templates=templates,
        labels=torch.tensor(labelled.labels),
        rule=(
            f"Candidates are the {len(class_names):,} names {source}; a class is the mean of its "
            f"vectors in {sentences}. A class with an equal score stands before the right one."
        ),
        notes=labelled.absent(len(class_names), folder),
    )


def templates_in(folder: Path) -> tuple[tuple[str, ...], str]:
    """The sentences in a folder's file of them, with {} where names go; and what to call them.

    Without such a file, OpenAI's for ImageNet. Raises UserError for a sentence without a place.
    """
    path = next((folder / name for name in TEMPLATE_FILES if (folder / name).is_file()), None)
    if path is None:
        templates = openai_templates()
        return templates, f"OpenAI's {len(templates)} sentences for ImageNet"
    lines = read_lines(path, "sentences")
    for number, line in enumerate(lines, 1):
        if "{c}" not in line and "{}" not in line:
            raise UserError(
                f"line {number} of {path} has no place for a name: {line[:60]!r}; write {{c}} there"
            )
    # The form in which CLIP_benchmark writes them is understood as well.
    templates = tuple(line.replace("{c}", "{}") for line in lines)
    return templates, f"the {len(templates)} sentences of {path.name}"


def _in_order(names: list[str]) -> list[str]:
    """Sorted; as numbers where all are numbers, since "10" stands before "2" in the alphabet."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return names


def _class_names(folder: Path, order: list[str]) -> tuple[Mapping[str, str], str]:
    """What the class of each folder is called, in the order of the classes; and where that stands."""
    lines_file, table_file = folder / "classnames.txt", folder / "classnames.json"
    if lines_file.is_file() and table_file.is_file():
        raise UserError(f"{folder} has both classnames.txt and classnames.json; keep one of them")
    if table_file.is_file():
        table = read_string_table(table_file, "names of classes")
        unnamed = [name for name in order if name not in table]
        if unnamed:
            raise UserError(
                f"{table_file} has no name for {len(unnamed):,} of the {len(order):,} class folders, "
                f"such as {unnamed[0]!r}; add it"
            )
        return table, "in classnames.json"
    if not lines_file.is_file():
        # An underscore is how folders write a space.
        return {name: name.replace("_", " ").strip() or name for name in order}, "of the folders"
    lines = read_lines(lines_file, "names of classes")
    by_number = {str(number): line for number, line in enumerate(lines)}
    if by_number.keys() >= set(order):
        return by_number, "in classnames.txt, by the numbers that folders are called"
    if len(lines) != len(order):
        raise UserError(
            f"{lines_file} has {len(lines):,} names for {len(order):,} class folders; write one for "
            "each folder in their sorted order, or a classnames.json"
        )
    return dict(zip(order, lines, strict=True)), "in classnames.txt, in the order of the folders"
