"""A vector for each class of a zero-shot task: the mean of its sentences' unit vectors, made unit again.

Axes: C classes, E the shared embedding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import normalize

from eval.embed import embed_texts
from eval.encoder import DualEncoder
from eval.ranks import Ranks
from eval.task_kinds import ZeroShotTask

SENTENCES_AT_ONCE = 8192
"""How many sentences are held as vectors at once: 80 for each of 1,000 classes fill gigabytes."""


def sentences_of(task: ZeroShotTask) -> list[list[str]]:
    """The sentences of each class: those of the data set, or its name in each template."""
    if task.class_sentences is not None:
        return task.class_sentences
    return [
        [template.replace("{}", name) for template in task.templates] for name in task.class_names
    ]


def class_features(
    encoder: DualEncoder,
    sentences: Sequence[Sequence[str]],
    variants: Sequence[str],
    ranks: Ranks,
    *,
    label: str | None = None,
) -> dict[str, Float32[Tensor, "C E"]]:
    """The unit vector of each class for each variant, from the sentences of each class.

    Classes with the same sentences are one: they have the same vector to the last bit. With a
    `label` the first process tells on standard error how far it is.
    """
    distinct = list(dict.fromkeys(map(tuple, sentences)))
    class_of_sentence = [number for number, of_class in enumerate(distinct) for _ in of_class]
    flat = [sentence for of_class in distinct for sentence in of_class]
    sums: dict[str, Tensor] = {}
    for start in range(0, len(flat), SENTENCES_AT_ONCE):
        part = slice(start, start + SENTENCES_AT_ONCE)
        told = label and f"{label} from {start:,} of {len(flat):,}"
        features = embed_texts(encoder, flat[part], variants, ranks, told)
        owners = torch.tensor(class_of_sentence[part])
        for variant, rows in features.items():
            if variant not in sums:
                sums[variant] = torch.zeros(len(distinct), rows.shape[1], dtype=torch.float64)
            # One after the other in their order: where the parts end does not change a sum.
            sums[variant].index_add_(0, owners, normalize(rows.double(), dim=-1))
    number_of = {of_class: number for number, of_class in enumerate(distinct)}
    rows_of_classes = torch.tensor([number_of[tuple(of_class)] for of_class in sentences])
    return {
        variant: normalize(total, dim=-1)[rows_of_classes].float()
        for variant, total in sums.items()
    }
