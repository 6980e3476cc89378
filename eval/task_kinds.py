"""What a task may ask of an encoder: to name pictures, to find pictures and texts, to choose among captions.

Axes: N pictures, P right pairs, T pictures to learn from.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Int64
from torch import Tensor

from eval.picture_sets import PictureSet


def no_pairs() -> Int64[Tensor, "0 2"]:
    """An empty list of pairs."""
    return torch.zeros(0, 2, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all tasks have."""

    name: str
    dataset: str
    language: str = "en"
    pictures: PictureSet
    rule: str
    """What counts as right, in words."""
    notes: list[str] = field(default_factory=list)
    missing: dict[int, str] = field(default_factory=dict)
    """Pictures that do not count, because nothing is known of them, and why."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotTask(Task):
    """Pictures, each of one class."""

    class_names: list[str]
    templates: tuple[str, ...] = ()
    """Sentences with {} where the name goes."""
    class_sentences: list[list[str]] | None = None
    """Where the data set writes the sentences of each class itself; templates are then not used."""
    labels: Int64[Tensor, " N"]
    """The class of each picture; of one that is missing it means nothing."""
    also_right: Int64[Tensor, "P 2"] = field(default_factory=no_pairs)
    """(picture, class) where a picture shows more than its label says."""


@dataclass(frozen=True, kw_only=True)
class RetrievalTask(Task):
    """Pictures and distinct texts, and which belong together."""

    texts: list[str]
    right_pairs: Int64[Tensor, "P 2"]
    """(picture, text); each text has a picture, each picture that is not missing a text."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One picture and captions of which some are right: numbers of the task's texts."""

    picture: int
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    kind: str
    """What the wrong ones change, such as "swap attribute"."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two pictures and their two captions, which use the same words (Winoground, arXiv 2204.03162)."""

    pictures: tuple[int, int]
    texts: tuple[int, int]
    kind: str


@dataclass(frozen=True, kw_only=True)
class CompositionalTask(Task):
    """Questions that a bag of words answers no better than chance."""

    texts: list[str]
    questions: list[Choice | Pairing]


@dataclass(frozen=True, kw_only=True)
class ProbeTask(Task):
    """Pictures of known classes to learn from; what was learned is tested on `pictures`."""

    class_names: list[str]
    labels: Int64[Tensor, " N"]
    """The class of each of `pictures`; of one that is missing it means nothing."""
    train_pictures: PictureSet
    train_labels: Int64[Tensor, " T"]
    train_missing: dict[int, str] = field(default_factory=dict)
    """Pictures that nothing is learned from, and why."""
