"""Recall@k of pictures and texts, with several texts per picture and several pictures per text.

A query counts as found when at least one of its right candidates is among its k best. This is the
definition of the CLIP and SigLIP papers.

Axes: N pictures, M texts, E the shared embedding, P right pairs, k cut-offs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eval.ranking import chance_of_hits, wrong_before_right
from eval.ranks import Ranks

CUT_OFFS = (1, 5, 10)


def pairs_of_keys(image_keys: Sequence[str], text_keys: Sequence[str]) -> Int64[Tensor, "P 2"]:
    """The pairs (picture, text) whose keys are equal."""
    texts_of: dict[str, list[int]] = {}
    for number, key in enumerate(text_keys):
        texts_of.setdefault(key, []).append(number)
    pairs = [
        (image, text) for image, key in enumerate(image_keys) for text in texts_of.get(key, [])
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def recall_counts(
    query_features: Float[Tensor, "Q E"],
    candidate_features: Float[Tensor, "M E"],
    right_pairs: Int64[Tensor, "P 2"],
    ranks: Ranks,
    ks: Sequence[int] = CUT_OFFS,
) -> Int64[Tensor, " k"]:
    """How many queries have a right candidate among their k best, for each k.

    `right_pairs` holds (query, candidate); every query must have one. Ties count against the model.
    """
    before = wrong_before_right(
        query_features, candidate_features, right_pairs, limit=max(ks), ranks=ranks
    )
    return (before[:, None] < torch.tensor(ks)).sum(dim=0)


def recalls(
    image_features: Float[Tensor, "N E"],
    text_features: Float[Tensor, "M E"],
    right_pairs: Int64[Tensor, "P 2"],
    ranks: Ranks,
    ks: Sequence[int] = CUT_OFFS,
) -> dict[str, float]:
    """Recall both ways under CLIP_benchmark's names.

    `text_retrieval_recall@k` asks with a picture for its text, `image_retrieval_recall@k` with a
    text for its picture. `right_pairs` holds (picture, text).
    """
    found_texts = recall_counts(image_features, text_features, right_pairs, ranks, ks)
    found_images = recall_counts(text_features, image_features, right_pairs.flip(1), ranks, ks)
    shares = [count / len(text_features) for count in found_images.tolist()]
    shares += [count / len(image_features) for count in found_texts.tolist()]
    return dict(zip(metric_names(ks), shares, strict=True))


def chance_recalls(
    num_images: int,
    num_texts: int,
    right_pairs: Int64[Tensor, "P 2"],
    ks: Sequence[int] = CUT_OFFS,
) -> dict[str, float]:
    """What a random order would reach, under the names of the metrics."""
    chances = chance_of_hits(right_pairs.flip(1), num_texts, num_images, ks)
    chances += chance_of_hits(right_pairs, num_images, num_texts, ks)
    return dict(zip(metric_names(ks), chances, strict=True))


def metric_names(ks: Sequence[int]) -> list[str]:
    """CLIP_benchmark's names, in the order in which recalls are listed."""
    return [f"{asked}_retrieval_recall@{k}" for asked in ("image", "text") for k in ks]
