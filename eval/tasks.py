"""Names of tasks, and the function that opens each.

Names that end in … go on with a path, a file or a choice; docs/evaluation.md lists them all.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record
from data_pipelines.errors import UserError
from eval.classification_sets import class_folders, emoji_style
from eval.imagenet import SETS, imagenet, imagenet_with
from eval.objectnet import objectnet
from eval.picture_sets import shard_pictures
from eval.retrieval import pairs_of_keys
from eval.task_kinds import RetrievalTask, Task, ZeroShotTask
from eval.wds_folders import wds_folder

__all__ = ["SPECS", "TASKS", "RetrievalTask", "ZeroShotTask", "open_task"]

NO_FOLDERS: Mapping[str, Path] = MappingProxyType({})


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
        if spec and spec != name and (start != "retrieval:" or _looks_like_shards(spec)):
            folder = data_folders.get(start.removesuffix(":"), data)
            return SPECS[start](name, spec, data_folders.get(name, folder))
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.4)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(
        f"there is no task {name!r}; {guess}There are: {', '.join([*TASKS, *SPECS])}; the last ones "
        "go on with a path, such as wds:FOLDER or retrieval:val/*.tar"
    )


def _looks_like_shards(spec: str) -> bool:
    return any(mark in spec for mark in ("/", "*", "{", ".tar", ":"))


def _emoji_retrieval(name: str, data: Path | None) -> RetrievalTask:
    """Skin tones share one text, or else nobody could tell which of six texts is the right one."""
    pictures, records, missing = shard_pictures([f"emoji:{name.rpartition('-')[2]}"])
    # Two sources may give one label other keywords: both texts are then right for its pictures.
    key_of_text = {
        ", ".join([record["positive_key"], *record["keywords"]]): record["positive_key"]
        for record in records.values()
    }
    image_keys = [records.get(n, {}).get("positive_key", "") for n in range(pictures.num_pictures)]
    return RetrievalTask(
        name=name,
        dataset=name.partition(":")[2],
        pictures=pictures,
        missing=missing,
        texts=list(key_of_text),
        right_pairs=pairs_of_keys(image_keys, list(key_of_text.values())),
        rule=(
            "A text is a label without its skin tone, and all keywords of it. Candidates are all "
            "distinct texts, or all pictures of every style and tone. A picture is found by any "
            "text, and a text by any picture, with the same label. Ties count as misses."
        ),
    )


def _own_shards(name: str, spec: str, data: Path | None) -> RetrievalTask:
    pictures, records, missing = shard_pictures([spec])
    texts: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    for number, record in records.items():
        try:
            captions = _captions(record)
        except BadSample as error:
            missing[number] = error.cause
            continue
        pairs |= {(number, texts.setdefault(caption, len(texts))) for caption in captions}
    return RetrievalTask(
        name=name,
        dataset=spec,
        pictures=pictures,
        missing=missing,
        texts=list(texts),
        right_pairs=torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2),
        rule=(
            "Each line of a sample's txt is a text. Candidates are all distinct texts, or all "
            "pictures. A picture is found by any of its texts, a text by any picture that has it. "
            "Ties count as misses."
        ),
    )


def _captions(record: Record) -> list[str]:
    lines = [line.strip() for line in record.get("txt", "").splitlines()]
    captions = [line for line in lines if line]
    if not captions:
        raise BadSample("empty caption" if "txt" in record else "no txt")
    return captions


TASKS: dict[str, Callable[[str, Path | None], Task]] = {
    "zero_shot:emoji-style": emoji_style,
    **dict.fromkeys(SETS, imagenet),
    "zero_shot:objectnet": objectnet,
    "retrieval:emoji-test": _emoji_retrieval,
    "retrieval:emoji-val": _emoji_retrieval,
}
"""Whole names."""

SPECS: dict[str, Callable[[str, str, Path | None], Task]] = {
    **dict.fromkeys((f"{name}:" for name in SETS), imagenet_with),
    "zero_shot:folders:": class_folders,
    "wds:": wds_folder,
    "retrieval:": _own_shards,
}
"""How names begin that go on with a path or a choice."""
