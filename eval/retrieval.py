"""Finding texts with pictures and pictures with texts, several of each belonging together.

A query counts as found at k when at least one of its right candidates is among its k best: the
definition of the CLIP and SigLIP papers. `text_retrieval_…` asks with a picture for its texts,
`image_retrieval_…` with a text for its pictures.

Axes: N pictures, M texts, E the shared embedding, P right pairs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eval.bootstrap import interval_of_mean, interval_of_median
from eval.chance import chance_of_hits, chance_of_median_rank, chance_of_precision
from eval.measured import Measured
from eval.ranking import Ranking, rank_both_ways
from eval.ranks import Ranks
from eval.scores import Vectors
from eval.task_kinds import RetrievalTask

CUT_OFFS = (1, 5, 10)
NUM_MISTAKES = 24


def pairs_of_keys(image_keys: Sequence[str], text_keys: Sequence[str]) -> Int64[Tensor, "P 2"]:
    """The pairs (picture, text) whose keys are equal."""
    texts_of: dict[str, list[int]] = {}
    for number, key in enumerate(text_keys):
        texts_of.setdefault(key, []).append(number)
    pairs = [
        (image, text) for image, key in enumerate(image_keys) for text in texts_of.get(key, [])
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def texts_asked(task: RetrievalTask, usable: Bool[Tensor, " N"]) -> Bool[Tensor, " M"]:
    """Which texts have a usable picture. The others are neither asked nor offered."""
    asked = torch.zeros(len(task.texts), dtype=torch.bool)
    asked[task.right_pairs[usable[task.right_pairs[:, 0]], 1]] = True
    return asked


def measure(
    task: RetrievalTask,
    image_features: Float[Tensor, "N E"],
    text_features: Float[Tensor, "M E"],
    *,
    usable: Bool[Tensor, " N"],
    ranks: Ranks,
) -> Measured:
    """Recall, median rank and mean average precision both ways; the same on every rank.

    Features are those of all pictures and texts of the task, in its order; what does not count is
    left out here.
    """
    pictures = usable.nonzero().flatten()
    texts = texts_asked(task, usable).nonzero().flatten()
    pairs = task.right_pairs[usable[task.right_pairs[:, 0]]]
    # Both lists are sorted.
    pairs = torch.stack(
        [
            torch.searchsorted(numbers, pairs[:, column].contiguous())
            for column, numbers in enumerate((pictures, texts))
        ],
        dim=1,
    )
    found_texts, found_pictures = rank_both_ways(
        Vectors(image_features, pictures), Vectors(text_features, texts), pairs, ranks
    )
    of_pictures = _measure_one_way("image_retrieval", found_pictures, len(pictures))
    of_texts = _measure_one_way("text_retrieval", found_texts, len(texts))
    return Measured(
        metrics=of_pictures.metrics | of_texts.metrics,
        chance=of_pictures.chance | of_texts.chance,
        intervals=of_pictures.intervals | of_texts.intervals,
        near_ties=of_pictures.near_ties | of_texts.near_ties,
        mistakes=[
            {
                "picture": int(pictures[query]),
                "right": task.texts[int(texts[right])],
                "given": task.texts[int(texts[given])],
                "margin": margin,
            }
            for query, right, given, margin in found_texts.worst(NUM_MISTAKES)
        ],
    )


def _measure_one_way(direction: str, ranking: Ranking, num_candidates: int) -> Measured:
    num_right = torch.bincount(ranking.pairs[:, 0])
    values, chance, near_ties = {}, {}, {}
    for k in CUT_OFFS:
        name = f"{direction}_recall@{k}"
        values[name] = ranking.hits(k).double().numpy()
        chance[name] = float(chance_of_hits(num_right, num_candidates, k).mean())
        near_ties[name] = ranking.near_ties(k)
    name = f"{direction}_map"
    values[name] = ranking.average_precisions().numpy()
    chance[name] = chance_of_precision(num_right, num_candidates)
    near_ties[name] = ranking.near_ties_of_precisions()
    metrics = {name: float(value.mean()) for name, value in values.items()}
    intervals = {name: interval_of_mean(value) for name, value in values.items()}
    name = f"{direction}_median_rank"
    found_at = ranking.ranks().double().numpy()
    metrics[name] = float(np.median(found_at))
    intervals[name] = interval_of_median(found_at)
    chance[name] = chance_of_median_rank(num_right, num_candidates)
    near_ties[name] = ranking.near_ties_of_ranks()
    return Measured(metrics=metrics, chance=chance, intervals=intervals, near_ties=near_ties)
