"""How much frozen image vectors say of classes: a linear probe and k nearest neighbours.

Linear probe: logistic regression, its penalty chosen on a fifth of the pictures to learn from, then fitted
to all of them. k-NN: the nearest by cosine vote with weights exp(cosine / 0.07), as in DINO
(arXiv 2104.14294).

Axes: N pictures to test, T pictures to learn from, E features, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.hashing import stable_hash
from eval.logistic import fit
from eval.measured import Measured
from eval.ranks import Ranks
from eval.task_kinds import ProbeTask

INVERSE_PENALTIES = tuple(10.0**power for power in range(-2, 7))
"""What is tried: scikit-learn's C. Vectors of length one need weak penalties."""
HELD_OUT_EVERY = 5
NEIGHBOURS = 20
TEMPERATURE = 0.07
QUERY_TILE = 256
CANDIDATE_TILE = 16384
NEAR = 1e-5
MOST_CONFUSIONS = 20
MOST_MISTAKES = 24


def measure(
    task: ProbeTask,
    image_features: Float[Tensor, "N E"],
    train_features: Float[Tensor, "T E"],
    ranks: Ranks,
) -> Measured:
    """`linear_probe_acc1`, `knn_acc1` and the mean recall over classes of both.

    The rows are all pictures of the task; those in `task.missing` and `task.train_missing` do not
    count. Details (per_class, confusions, mistakes) are those of the linear probe. Ties count against
    the model. The same on every rank.
    """
    tested = _counted(len(image_features), task.missing)
    learned = _counted(len(train_features), task.train_missing)
    labels, train_labels = task.labels[tested], task.train_labels[learned]
    if not len(labels) or len(train_labels.unique()) < 2:
        raise UserError(
            f"{task.name}: {len(labels):,} pictures to test and {len(train_labels):,} of "
            f"{len(train_labels.unique())} classes to learn from; a probe needs two classes"
        )
    test, train = image_features[tested], train_features[learned]
    num_classes = len(task.class_names)
    linear, notes = _linear_probe(test, labels, train, train_labels, num_classes, ranks)
    nearest = _nearest_neighbours(test, labels, train, train_labels, num_classes, ranks)
    metrics: dict[str, float] = {}
    near_ties: dict[str, int] = {}
    for name, outcome in (("linear_probe", linear), ("knn", nearest)):
        right = outcome.margins > 0
        metrics[f"{name}_acc1"] = int(right.sum()) / len(labels)
        metrics[f"{name}_mean_per_class_recall"] = _mean_recall(right, labels, num_classes)
        near = int((outcome.margins.abs() <= NEAR).sum())
        near_ties |= {f"{name}_acc1": near, f"{name}_mean_per_class_recall": near}
    return Measured(
        metrics=metrics,
        chance=_chance(labels, train_labels, num_classes),
        near_ties=near_ties,
        per_class=_per_class(linear, labels, task.class_names),
        confusions=_confusions(linear, labels, task.class_names),
        mistakes=_mistakes(linear, labels, tested.nonzero().flatten(), task.class_names),
        notes=notes,
    )


def held_out(labels: Int64[Tensor, " T"]) -> Bool[Tensor, " T"]:
    """Which pictures choose the penalty: a fifth of each class, and never all of one.

    A pure function of the labels and their order.
    """
    order = sorted(range(len(labels)), key=lambda number: stable_hash("held out", number))
    seen: Counter[int] = Counter()
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    classes = labels.tolist()
    for number in order:
        chosen[number] = seen[classes[number]] % HELD_OUT_EVERY == 1
        seen[classes[number]] += 1
    return chosen


def _linear_probe(
    test: Float[Tensor, "N E"],
    labels: Int64[Tensor, " N"],
    train: Float[Tensor, "T E"],
    train_labels: Int64[Tensor, " T"],
    num_classes: int,
    ranks: Ranks,
) -> tuple["Outcome", list[str]]:
    """How the test pictures come out, and what was chosen. Ranks share the penalties that are tried."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # A class without pictures to learn from has no place in the fit.
    known, places = train_labels.unique(return_inverse=True)
    train, places, test = train.to(device), places.to(device), test.to(device)
    choosing = held_out(train_labels).to(device)
    shown, shown_places = train[~choosing], places[~choosing]
    asked, asked_places = train[choosing], places[choosing].cpu()
    right = torch.zeros(len(INVERSE_PENALTIES), dtype=torch.int64)
    for number, inverse_penalty in enumerate(INVERSE_PENALTIES):
        ranks.leave_when_asked()
        if len(asked) and number % ranks.world_size == ranks.rank:
            part = fit(shown, shown_places, len(known), inverse_penalty)
            outcome = _outcome(part.logits(asked), asked_places)
            right[number] = int((outcome.margins > 0).sum())
    right = ranks.sum_counts(right)
    # Of equally good ones the strongest penalty, which stands first.
    best = INVERSE_PENALTIES[int(right.argmax())]
    classifier = fit(train, places, len(known), best)
    logits = torch.full((len(labels), num_classes), -torch.inf)
    logits[:, known] = classifier.logits(test)
    # Every rank has fitted the same; the first one's digits count, should others' differ in the last.
    outcome = Outcome(*(ranks.all_gather(part)[0] for part in _outcome(logits, labels)))
    share = f"{int(right.max()):,} of {len(asked):,} held-out pictures right"
    notes = [
        f"linear probe: C = {best:g} of {INVERSE_PENALTIES[0]:g} to {INVERSE_PENALTIES[-1]:g} "
        f"({share})"
    ]
    if best in (INVERSE_PENALTIES[0], INVERSE_PENALTIES[-1]):
        notes.append("linear probe: the best C is the last that was tried; others may do better")
    if not classifier.converged:
        notes.append("linear probe: the fit did not converge")
    return outcome, notes


def _nearest_neighbours(
    test: Float[Tensor, "N E"],
    labels: Int64[Tensor, " N"],
    train: Float[Tensor, "T E"],
    train_labels: Int64[Tensor, " T"],
    num_classes: int,
    ranks: Ranks,
) -> "Outcome":
    """How the votes of the nearest come out. Tile t of the test pictures belongs to rank t mod W."""
    margins = torch.zeros(len(test))
    numbers = torch.zeros(2, len(test), dtype=torch.int64)
    for tile, start in enumerate(range(0, len(test), QUERY_TILE)):
        ranks.leave_when_asked()
        if tile % ranks.world_size != ranks.rank:
            continue
        part = slice(start, start + QUERY_TILE)
        scores, neighbours = nearest(test[part], train, NEIGHBOURS)
        # Less one in the exponent: the same order, and no weight above one.
        weights = ((scores.double() - 1) / TEMPERATURE).exp()
        votes = torch.zeros(len(scores), num_classes, dtype=torch.float64)
        votes.scatter_add_(1, train_labels[neighbours], weights)
        outcome = _outcome((votes / votes.sum(dim=1, keepdim=True)).float(), labels[part])
        margins[part] = outcome.margins
        numbers[:, part] = torch.stack([outcome.before, outcome.given])
    before, given = ranks.sum_counts(numbers)
    # Each place is 0 but at the rank that it belongs to, so the sum is exact.
    return Outcome(ranks.all_gather(margins).sum(dim=0), before, given)


def nearest(
    queries: Float[Tensor, "Q E"], candidates: Float[Tensor, "T E"], k: int
) -> tuple[Float32[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """Scores and numbers of the k candidates with the greatest products; of equal ones the first."""
    best = torch.zeros(len(queries), 0)
    numbers = torch.zeros(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(candidates), CANDIDATE_TILE):
        tile = candidates[start : start + CANDIDATE_TILE].double()
        scores = (queries.double() @ tile.T).float()
        places = torch.arange(start, start + len(tile)).expand(len(queries), -1)
        best, order = torch.cat([best, scores], dim=1).sort(dim=1, descending=True, stable=True)
        numbers = torch.cat([numbers, places], dim=1).gather(1, order)
        best, numbers = best[:, :k], numbers[:, :k]
    return best, numbers


def _outcome(scores: Float32[Tensor, "N C"], labels: Int64[Tensor, " N"]) -> "Outcome":
    right = scores.gather(1, labels[:, None])
    others = scores.scatter(1, labels[:, None], -torch.inf)
    best, given = others.max(dim=1)
    before = (others >= right).sum(dim=1)
    margins = (right[:, 0] - best).nan_to_num(nan=-torch.inf)
    return Outcome(margins, before, given)


def _counted(num_pictures: int, missing: dict[int, str]) -> Bool[Tensor, " N"]:
    counted = torch.ones(num_pictures, dtype=torch.bool)
    counted[list(missing)] = False
    return counted


def _mean_recall(right: Bool[Tensor, " N"], labels: Int64[Tensor, " N"], num_classes: int) -> float:
    totals = torch.bincount(labels, minlength=num_classes)
    hits = torch.bincount(labels[right], minlength=num_classes)
    return float((hits[totals > 0].double() / totals[totals > 0]).mean())


def _chance(
    labels: Int64[Tensor, " N"], train_labels: Int64[Tensor, " T"], num_classes: int
) -> dict[str, float]:
    """What one reaches who always names the class that is most frequent in training."""
    frequent = int(torch.bincount(train_labels, minlength=num_classes).argmax())
    share = int((labels == frequent).sum()) / len(labels)
    recall = _mean_recall(labels == frequent, labels, num_classes)
    chance: dict[str, float] = {}
    for name in ("linear_probe", "knn"):
        chance |= {f"{name}_acc1": share, f"{name}_mean_per_class_recall": recall}
    return chance


def _per_class(
    outcome: "Outcome", labels: Int64[Tensor, " N"], names: Sequence[str]
) -> list[dict[str, Any]]:
    rows = []
    for number in labels.unique().tolist():
        own = labels == number
        right, among_five = outcome.margins[own] > 0, outcome.before[own] < 5
        rows.append(
            {
                "class": names[number],
                "pictures": int(own.sum()),
                "acc1": float(right.double().mean()),
                "acc5": float(among_five.double().mean()),
            }
        )
    return rows


def _confusions(
    outcome: "Outcome", labels: Int64[Tensor, " N"], names: Sequence[str]
) -> list[dict[str, Any]]:
    wrong = outcome.margins <= 0
    counts = Counter(zip(labels[wrong].tolist(), outcome.given[wrong].tolist(), strict=True))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"right": names[right], "given": names[given], "count": count}
        for (right, given), count in ordered[:MOST_CONFUSIONS]
    ]


def _mistakes(
    outcome: "Outcome",
    labels: Int64[Tensor, " N"],
    pictures: Int64[Tensor, " N"],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    worst = outcome.margins.sort(stable=True).indices[:MOST_MISTAKES].tolist()
    return [
        {
            "picture": int(pictures[place]),
            "right": names[int(labels[place])],
            "given": names[int(outcome.given[place])],
            "margin": -float(outcome.margins[place]),
        }
        for place in worst
        # What is not finite has no place in JSON.
        if -torch.inf < outcome.margins[place] <= 0
    ]


class Outcome(NamedTuple):
    """How each test picture came out."""

    margins: Float32[Tensor, " N"]
    """Score of the right class minus that of the best other one; right where above 0."""
    before: Int64[Tensor, " N"]
    """How many other classes score at least as much as the right one."""
    given: Int64[Tensor, " N"]
    """The best other class."""
