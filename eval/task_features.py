"""What the encoder gives for one task: the vectors of its pictures, and of what they are compared with.

Axes: N pictures, E the shared embedding.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.words import tell
from eval.class_texts import class_features, sentences_of
from eval.embed import EmbeddedPictures, embed_pictures, embed_texts
from eval.encoder import DualEncoder
from eval.feature_store import FeatureStore
from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.task_kinds import CompositionalTask, ProbeTask, RetrievalTask, Task, ZeroShotTask


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How all tasks of a suite are encoded, by whom, and what is kept of it."""

    encoder: DualEncoder
    text_variants: list[str]
    image_variants: list[str]
    ranks: Ranks
    batch_size: int
    work: FeatureStore
    cache: FeatureStore
    progress: bool


def prompts_of(task: Task) -> list[Any]:
    """All strings that a task shows to the encoder."""
    if isinstance(task, ZeroShotTask):
        return sentences_of(task)
    return task.texts if isinstance(task, RetrievalTask | CompositionalTask) else []


def picture_sets_of(task: Task) -> list[PictureSet]:
    """Those to score, and those to learn from where there are any."""
    return [task.pictures, *([task.train_pictures] if isinstance(task, ProbeTask) else [])]


def embed_picture_set(encoding: Encoding, name: str, pictures: PictureSet) -> EmbeddedPictures:
    """The vectors of the pictures; `name` is that of the task, for whoever watches."""
    return embed_pictures(
        encoding.encoder,
        pictures.read,
        pictures.num_pictures,
        encoding.image_variants,
        encoding.ranks,
        batch_size=encoding.batch_size,
        work=encoding.work,
        fingerprint=pictures.fingerprint,
        label=f"{name}: pictures" if encoding.progress else None,
    )


def embed_task_texts(encoding: Encoding, task: Task) -> dict[str, Float32[Tensor, "any E"]]:
    """For each text variant the vectors of a task's classes, or of its texts; none for a probe."""
    label = f"{task.name}: texts" if encoding.progress else None
    if isinstance(task, ZeroShotTask):
        return class_features(
            encoding.encoder,
            sentences_of(task),
            encoding.text_variants,
            encoding.ranks,
            batch_size=encoding.batch_size,
            work=encoding.work,
            cache=encoding.cache,
            label=label,
        )
    if not isinstance(task, RetrievalTask | CompositionalTask):
        return {}
    return embed_texts(
        encoding.encoder,
        task.texts,
        encoding.text_variants,
        encoding.ranks,
        batch_size=encoding.batch_size,
        work=encoding.work,
        label=label,
    )


def usable_pictures(name: str, num_pictures: int, causes: Mapping[int, str]) -> Bool[Tensor, " N"]:
    """Which pictures count, when these do not. Raises UserError when none does."""
    if len(causes) == num_pictures:
        raise UserError(
            f"{name}: none of its {num_pictures:,} pictures can be used ({by_cause(causes)}); "
            "look at the data"
        )
    usable = torch.ones(num_pictures, dtype=torch.bool)
    usable[list(causes)] = False
    return usable


def by_cause(causes: Mapping[int, str]) -> dict[str, int]:
    """How many pictures do not count, the most frequent cause first."""
    return dict(Counter(causes.values()).most_common())


def tell_what_was_done_before(
    encoding: Encoding, name: str, calls_before: int, classes_before: int
) -> None:
    """Say, on the first process, what of a task was not computed now."""
    found = encoding.work.num_loaded - calls_before, encoding.cache.num_loaded - classes_before
    num_calls, num_classifiers = encoding.ranks.sum_counts(torch.tensor(found)).tolist()
    if not encoding.progress or not encoding.ranks.is_first:
        return
    if num_calls:
        tell(f"{name}: {num_calls:,} calls were done before")
    if num_classifiers:
        tell(
            f"{name}: class vectors of {num_classifiers} of {len(encoding.text_variants)} variants "
            "taken from the cache",
        )
