"""Names of tasks, and the function that opens each.

Names that end in … go on with a path, a file or a choice; docs/evaluation.md lists them all.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from data_pipelines.errors import UserError
from eval.classification_sets import class_folders, emoji_style
from eval.compositional_sets import (
    aro_choices,
    scene_choices,
    shard_choices,
    sugarcrepe_choices,
    winoground_pairings,
)
from eval.imagenet import SETS, imagenet, imagenet_with
from eval.objectnet import objectnet
from eval.probe_sets import emoji_probe, folder_probe, wds_probe
from eval.retrieval_sets import (
    emoji_retrieval,
    karpathy_retrieval,
    names_per_language,
    shard_retrieval,
    xm3600_retrieval,
)
from eval.task_kinds import Task
from eval.wds_folders import wds_folder

NO_FOLDERS: Mapping[str, Path] = MappingProxyType({})
OF_SHARDS = ("retrieval:", "compositional:")
"""What goes on with shards: nearly any word might be a mistyped name instead."""


def names_of(name: str, data: Path | None) -> list[str]:
    """The tasks that a name stands for: itself, or one for each language of a set that has several."""
    return names_per_language(name, data) if name.startswith("retrieval:xm3600:") else [name]


def open_task(name: str, data: Path | None, data_folders: Mapping[str, Path] = NO_FOLDERS) -> Task:
    """The task of that name.

    `data` is the folder for tasks whose pictures are the user's own; `data_folders` names others for
    single tasks, by their names, with or without what follows a name in SPECS.
    Raises UserError for names that there are not, with the nearest one, and for data that is missing
    or wrong.
    """
    if name in TASKS:
        return TASKS[name](name, data_folders.get(name, data))
    # The longest first, since retrieval:karpathy:FILE also begins with retrieval:.
    for start in sorted(SPECS, key=len, reverse=True):
        spec = name.removeprefix(start)
        if spec and spec != name and (start not in OF_SHARDS or _looks_like_shards(spec)):
            folder = data_folders.get(start.removesuffix(":"), data)
            return SPECS[start](name, spec, data_folders.get(name, folder))
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.4)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(
        f"there is no task {name!r}; {guess}There are: {', '.join([*TASKS, *SPECS])}; the last ones "
        "go on with a path, such as wds:FOLDER or retrieval:val/*.tar"
    )


def is_fetched(name: str) -> bool:
    """Whether a task's pictures come from an address. Files that name such tasks are not obeyed:
    whoever reads a record has not asked for anything to be fetched.
    """
    return "://" in name


def _looks_like_shards(spec: str) -> bool:
    return any(mark in spec for mark in ("/", "*", "{", ".tar", ":"))


TASKS: dict[str, Callable[[str, Path | None], Task]] = {
    "zero_shot:emoji-style": emoji_style,
    **dict.fromkeys(SETS, imagenet),
    "zero_shot:objectnet": objectnet,
    "retrieval:emoji-test": emoji_retrieval,
    "retrieval:emoji-val": emoji_retrieval,
    "probe:emoji": emoji_probe,
    "compositional:scenes": lambda name, data: scene_choices(name, "test", data),
}
"""Whole names."""

SPECS: dict[str, Callable[[str, str, Path | None], Task]] = {
    **dict.fromkeys((f"{name}:" for name in SETS), imagenet_with),
    "zero_shot:folders:": class_folders,
    "wds:": wds_folder,
    "retrieval:karpathy:": karpathy_retrieval,
    "retrieval:xm3600:": xm3600_retrieval,
    "retrieval:": shard_retrieval,
    "compositional:aro:": aro_choices,
    "compositional:sugarcrepe:": sugarcrepe_choices,
    "compositional:winoground:": winoground_pairings,
    "compositional:scenes:": scene_choices,
    "compositional:": shard_choices,
    "probe:folders:": folder_probe,
    "probe:wds:": wds_probe,
}
"""How names begin that go on with a path or a choice."""
