"""Names of tasks, and what each of them shows to an encoder.

zero_shot:emoji-style     names for the drawings of a style that training never saw
zero_shot:imagenet        ImageNet-1k from a folder per synset (--data)
retrieval:emoji-test      drawings of unseen families to their captions, and back
retrieval:emoji-val
retrieval:SHARDS          your own shards, such as retrieval:val/part-{000..004}.tar
"""

import difflib
from collections.abc import Callable
from pathlib import Path

import torch

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record
from data_pipelines.errors import UserError
from eval.picture_sets import folder_pictures, shard_pictures
from eval.retrieval import pairs_of_keys
from eval.task_kinds import RetrievalTask, ZeroShotTask

NAME_ALONE = ("{}",)


def open_task(name: str, data: Path | None) -> ZeroShotTask | RetrievalTask:
    """The task of that name. `data` is the folder for tasks whose pictures are the user's own.

    Raises UserError for names that there are not, with the nearest one, and for data that is missing.
    """
    if name in TASKS:
        return TASKS[name](name, data)
    kind, _, spec = name.partition(":")
    if kind == "retrieval" and _looks_like_shards(spec):
        return _own_shards(name, spec)
    nearest = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.4)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(
        f"there is no task {name!r}; {guess}There are: {', '.join(TASKS)}, "
        "and retrieval:SHARDS for your own shards, such as retrieval:val/*.tar"
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


def _emoji_style(name: str, data: Path | None) -> ZeroShotTask:
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


def _imagenet(name: str, data: Path | None) -> ZeroShotTask:
    if data is None:
        raise UserError(
            f"{name} needs --data PATH, a folder with one folder of pictures per synset, "
            "such as PATH/n01440764"
        )
    # They take seconds to import, and only this task needs them.
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo("imagenet-1k").label_names()
    pictures, labels = folder_pictures(data, {wnid: number for number, wnid in enumerate(synsets)})
    num_absent = len(synsets) - len(set(labels))
    notes = (
        [f"{num_absent:,} of the {len(synsets):,} classes have no pictures in {data}"]
        if num_absent
        else []
    )
    return ZeroShotTask(
        name=name,
        dataset="imagenet1k",
        pictures=pictures,
        class_names=list(IMAGENET_CLASSNAMES),
        templates=tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES),
        labels=torch.tensor(labels),
        rule=(
            f"Candidates are all {len(synsets):,} names of open_clip's list; a class is the mean of "
            f"its vectors in OpenAI's {len(OPENAI_IMAGENET_TEMPLATES)} sentences. A class with an "
            "equal score stands before the right one; of two classes with one name the first wins."
        ),
        notes=notes,
    )


def _own_shards(name: str, spec: str) -> RetrievalTask:
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


TASKS: dict[str, Callable[[str, Path | None], ZeroShotTask | RetrievalTask]] = {
    "zero_shot:emoji-style": _emoji_style,
    "zero_shot:imagenet": _imagenet,
    "retrieval:emoji-test": _emoji_retrieval,
    "retrieval:emoji-val": _emoji_retrieval,
}
