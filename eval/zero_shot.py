"""Zero-shot classification: a class is the mean vector of its name in several sentences.

Axes: C classes, T templates, N pictures, E the shared embedding, k cut-offs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from eval.embed import embed_texts
from eval.encoder import DualEncoder
from eval.ranking import chance_of_hits, wrong_before_right
from eval.ranks import Ranks

CUT_OFFS = (1, 5)
SENTENCES_AT_ONCE = 8192
"""How many sentences are held as vectors at once: 80 for each of 1,000 classes fill gigabytes."""


def classifier(text_features: Float[Tensor, "C T E"]) -> Float[Tensor, "C E"]:
    """One unit vector per class: the mean over its templates' unit vectors, made unit again."""
    return normalize(normalize(text_features, dim=-1).mean(dim=1), dim=-1)


def class_vectors(
    encoder: DualEncoder,
    class_names: Sequence[str],
    templates: Sequence[str],
    variants: Sequence[str],
    ranks: Ranks,
    label: str | None = None,
) -> dict[str, Float[Tensor, "C E"]]:
    """The classifier of each variant. A template holds {} where the name goes.

    With a `label` the first process tells on standard error how far it is.
    """
    classes_at_once = max(1, SENTENCES_AT_ONCE // len(templates))
    parts: dict[str, list[Tensor]] = {variant: [] for variant in variants}
    for start in range(0, len(class_names), classes_at_once):
        names = class_names[start : start + classes_at_once]
        sentences = [template.replace("{}", name) for name in names for template in templates]
        part = label and f"{label} of classes from {start:,} of {len(class_names):,}"
        features = embed_texts(encoder, sentences, variants, ranks, part)
        for variant in variants:
            parts[variant].append(
                classifier(features[variant].unflatten(0, (len(names), len(templates))))
            )
    return {variant: torch.cat(part) for variant, part in parts.items()}


def right_classes(
    labels: Int64[Tensor, " N"], class_names: Sequence[str]
) -> Int64[Tensor, "pairs 2"]:
    """The pairs (picture, right class), so that of two classes with one name the first wins.

    ImageNet has two classes called "missile" and two called "sunglasses"; no encoder can tell them
    apart. The first of them stands before its namesake, as where others take the arg max; a picture
    of the second is right only where both fit into the top k.
    """
    classes_by_name: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        classes_by_name.setdefault(name, []).append(number)
    pairs = [
        (picture, number)
        for picture, label in enumerate(labels.tolist())
        for number in classes_by_name[class_names[label]]
        if number >= label
    ]
    return torch.tensor(pairs, dtype=torch.int64)


def count_correct(
    image_features: Float[Tensor, "N E"],
    class_features: Float[Tensor, "C E"],
    labels: Int64[Tensor, " N"],
    class_names: Sequence[str],
    ranks: Ranks,
    ks: Sequence[int] = CUT_OFFS,
) -> Int64[Tensor, "C k"]:
    """For each class, how many of its pictures have it among their k best classes.

    A class with an equal score stands before the right one.
    """
    before = wrong_before_right(
        image_features,
        class_features,
        right_classes(labels, class_names),
        limit=max(ks),
        ranks=ranks,
    )
    hits = (before[:, None] < torch.tensor(ks)).long()
    counts = torch.zeros(len(class_names), len(ks), dtype=torch.int64)
    return counts.index_add(0, labels, hits)


def accuracies(
    correct: Int64[Tensor, "C k"], labels: Int64[Tensor, " N"], ks: Sequence[int] = CUT_OFFS
) -> dict[str, float]:
    """`acc1`, `acc5` over all pictures; top-1 of each class, averaged over those with pictures."""
    per_class = torch.bincount(labels, minlength=len(correct))
    seen = per_class > 0
    metrics = {
        f"acc{k}": int(correct[:, column].sum()) / len(labels) for column, k in enumerate(ks)
    }
    recall = correct[seen, ks.index(1)].double() / per_class[seen]
    return {**metrics, "mean_per_class_recall": float(recall.mean())}


def chance_accuracies(
    labels: Int64[Tensor, " N"], num_classes: int, ks: Sequence[int] = CUT_OFFS
) -> dict[str, float]:
    """What guessing would reach, under the names of the metrics."""
    pairs = torch.stack([torch.arange(len(labels)), labels], dim=1)
    chances = chance_of_hits(pairs, len(labels), num_classes, ks)
    metrics = {f"acc{k}": chance for k, chance in zip(ks, chances, strict=True)}
    return {**metrics, "mean_per_class_recall": metrics["acc1"]}
