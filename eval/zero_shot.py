"""Zero-shot classification: the class of a picture is the one whose vector fits it best.

Axes: C classes, N pictures, E the shared embedding.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eval.bootstrap import interval_of_class_mean, interval_of_mean
from eval.chance import chance_of_hits
from eval.measured import Measured
from eval.ranking import Ranking, rank_rows
from eval.ranks import Ranks
from eval.scores import Vectors
from eval.task_kinds import ZeroShotTask

CUT_OFFS = (1, 5)
NUM_CONFUSIONS = 20
NUM_MISTAKES = 24


def measure(
    task: ZeroShotTask,
    image_features: Float[Tensor, "N E"],
    class_features: Float[Tensor, "C E"],
    *,
    usable: Bool[Tensor, " N"],
    ranks: Ranks,
) -> Measured:
    """Accuracies, recall by class and the worst confusions; the same on every rank.

    Features are those of all pictures of the task, in its order; what is not usable is left out
    here. A class with an equal score stands before the right one.
    """
    pictures = usable.nonzero().flatten()
    labels = task.labels[pictures]
    shown = _shown_classes(task, usable)
    ranking = rank_rows(
        Vectors(image_features, pictures),
        Vectors(class_features),
        with_later_namesakes(shown, task.class_names),
        ranks,
    )
    hits = {f"acc{k}": ranking.hits(k) for k in CUT_OFFS}
    near_ties = {f"acc{k}": ranking.near_ties(k) for k in CUT_OFFS}
    num_right = torch.bincount(shown[:, 0])
    chances = {f"acc{k}": chance_of_hits(num_right, len(task.class_names), k) for k in CUT_OFFS}
    name = "mean_per_class_recall"
    intervals = {name: interval_of_mean(hit.double().numpy()) for name, hit in hits.items()}
    return Measured(
        metrics={
            **{name: float(hit.double().numpy().mean()) for name, hit in hits.items()},
            name: _mean_of_classes(hits["acc1"].double(), labels),
        },
        chance={
            **{name: float(chance.mean()) for name, chance in chances.items()},
            name: _mean_of_classes(chances["acc1"], labels),
        },
        intervals=intervals | {name: interval_of_class_mean(hits["acc1"].numpy(), labels.numpy())},
        near_ties=near_ties | {name: near_ties["acc1"]},
        per_class=_class_table(task.class_names, labels, hits),
        confusions=_confusions(task.class_names, labels, ranking),
        mistakes=[
            {
                "picture": int(pictures[query]),
                "right": task.class_names[int(labels[query])],
                "given": task.class_names[given],
                "margin": margin,
            }
            for query, _, given, margin in ranking.worst(NUM_MISTAKES)
        ],
    )


def _shown_classes(task: ZeroShotTask, usable: Bool[Tensor, " N"]) -> Int64[Tensor, "P 2"]:
    """The distinct pairs (place among the usable pictures, class that it shows)."""
    numbers = torch.arange(len(usable))
    pairs = torch.cat([torch.stack([numbers, task.labels], dim=1), task.also_right])
    pairs = pairs[usable[pairs[:, 0]]]
    places = usable.cumsum(0) - 1
    return torch.stack([places[pairs[:, 0]], pairs[:, 1]], dim=1).unique(dim=0)


def with_later_namesakes(
    shown: Int64[Tensor, "P 2"], class_names: Sequence[str]
) -> Int64[Tensor, "pairs 2"]:
    """The pairs (picture, right class), so that of two classes with one name the first wins.

    ImageNet has two classes called "missile" and two called "sunglasses"; no encoder can tell them
    apart. The first of them stands before its namesake, as where others take the arg max; a picture
    of the second is right only where both fit into the top k.
    """
    classes_by_name: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        classes_by_name.setdefault(name, []).append(number)
    later = [
        (picture, number)
        for picture, label in shown.tolist()
        for number in classes_by_name[class_names[label]]
        if number >= label
    ]
    return torch.tensor(later, dtype=torch.int64).reshape(-1, 2)


def _mean_of_classes(values: Float[Tensor, " N"], labels: Int64[Tensor, " N"]) -> float:
    """The mean value of each class, averaged over those with pictures."""
    totals = np.bincount(labels.numpy())
    sums = np.bincount(labels.numpy(), weights=values.numpy())
    return float((sums[totals > 0] / totals[totals > 0]).mean())


def _class_table(
    class_names: Sequence[str], labels: Int64[Tensor, " N"], hits: dict[str, Bool[Tensor, " N"]]
) -> list[dict[str, Any]]:
    totals = torch.bincount(labels, minlength=len(class_names)).tolist()
    right = {
        name: torch.bincount(labels[hit], minlength=len(class_names)).tolist()
        for name, hit in hits.items()
    }
    return [
        {"class": class_name, "pictures": total}
        | {name: counts[number] / total for name, counts in right.items()}
        for number, (class_name, total) in enumerate(zip(class_names, totals, strict=True))
        if total
    ]


def _confusions(
    class_names: Sequence[str], labels: Int64[Tensor, " N"], ranking: Ranking
) -> list[dict[str, Any]]:
    """The most frequent wrong answers; of equally frequent ones those of the first classes."""
    missed = ~ranking.hits(1)
    counts = Counter(zip(labels[missed].tolist(), ranking.best_wrong[missed].tolist(), strict=True))
    worst = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NUM_CONFUSIONS]
    return [
        {"right": class_names[right], "given": class_names[given], "count": count}
        for (right, given), count in worst
    ]
