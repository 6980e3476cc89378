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
from eval.bootstrap import interval_of_class_mean, interval_of_mean
from eval.logistic import along_axes, fit
from eval.measured import Measured
from eval.nearest import nearest
from eval.ranking import MARGIN
from eval.ranks import Ranks
from eval.scores import Vectors
from eval.task_kinds import ProbeTask

INVERSE_PENALTIES = tuple(10.0**power for power in range(-2, 7))
"""What is tried: scikit-learn's C. Vectors of length one need weak penalties."""
NO_BETTER = 2
"""So many weaker penalties in a row that do no better end the search."""
HELD_OUT_EVERY = 5
NEIGHBOURS = 20
TEMPERATURE = 0.07
MOST_CONFUSIONS = 20
MOST_MISTAKES = 24


def measure(
    task: ProbeTask,
    image_features: Float[Tensor, "N E"],
    train_features: Float[Tensor, "T E"],
    *,
    usable: Bool[Tensor, " N"],
    ranks: Ranks,
) -> Measured:
    """`linear_probe_acc1`, `knn_acc1` and the mean recall over classes of both.

    Features are those of all pictures of the task, in its order; those that are not usable, and those
    in `task.train_missing`, do not count. Details (per_class, confusions, mistakes) are those of the
    linear probe. Ties count against the model. The same on every rank.
    """
    learned = torch.ones(len(train_features), dtype=torch.bool)
    learned[list(task.train_missing)] = False
    labels, train_labels = task.labels[usable], task.train_labels[learned]
    num_known = len(train_labels.unique())
    if num_known < 2:
        raise UserError(
            f"{task.name}: its {len(train_labels):,} pictures to learn from are of {num_known} "
            "classes; a probe needs two"
        )
    test, train = image_features[usable], train_features[learned]
    num_classes = len(task.class_names)
    linear, notes = _linear_probe(test, labels, train, train_labels, num_classes, ranks)
    neighbours = _nearest_neighbours(test, labels, train, train_labels, num_classes, ranks)
    # One who always names the class that is most frequent in training.
    always = labels == train_labels.bincount().argmax()
    numbers: dict[str, dict[str, Any]] = {
        "metrics": {},
        "chance": {},
        "near_ties": {},
        "intervals": {},
    }
    for name, outcome in (("linear_probe", linear), ("knn", neighbours)):
        right = outcome.margins > 0
        accuracy, recall = f"{name}_acc1", f"{name}_mean_per_class_recall"
        near_ties = int((outcome.margins.abs() <= MARGIN).sum())
        numbers["metrics"] |= {accuracy: _share(right), recall: _mean_recall(right, labels)}
        numbers["chance"] |= {accuracy: _share(always), recall: _mean_recall(always, labels)}
        numbers["near_ties"] |= {accuracy: near_ties, recall: near_ties}
        numbers["intervals"] |= {
            accuracy: interval_of_mean(right.double().numpy()),
            recall: interval_of_class_mean(right.numpy(), labels.numpy()),
        }
    return Measured(
        **numbers,
        per_class=_per_class(linear, labels, task.class_names),
        confusions=_confusions(linear, labels, task.class_names),
        mistakes=_mistakes(linear, labels, usable.nonzero().flatten(), task.class_names),
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
    """How the test pictures come out, and what was chosen. Every rank makes the same fits."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # A class without pictures to learn from has no place in the fit.
    known, places = train_labels.unique(return_inverse=True)
    train, places, test = train.to(device), places.to(device), test.to(device)
    best, num_right, num_asked = _best_penalty(train, places, held_out(train_labels), ranks)
    classifier = fit(along_axes(train), places, len(known), best)
    logits = torch.full((len(labels), num_classes), -torch.inf)
    logits[:, known] = classifier.logits(test)
    # The first rank's digits count, should others' differ in the last.
    outcome = Outcome(*(ranks.all_gather(part)[0] for part in _outcome(logits, labels)))
    notes = [f"linear probe: C = {best:g} ({num_right:,} of {num_asked:,} held-out pictures right)"]
    if best in (INVERSE_PENALTIES[0], INVERSE_PENALTIES[-1]):
        notes.append("linear probe: the best C is the last that was tried; others may do better")
    if not classifier.converged:
        notes.append("linear probe: the fit did not converge")
    return outcome, notes


def _best_penalty(
    train: Float[Tensor, "T E"],
    labels: Int64[Tensor, " T"],
    choosing: Bool[Tensor, " T"],
    ranks: Ranks,
) -> tuple[float, int, int]:
    """The inverse penalty that does best on the pictures that choose, and on how many of how many.

    Of equally good ones the strongest penalty.
    """
    num_classes = int(labels.max()) + 1
    choosing = choosing.to(train.device)
    shown, shown_labels = along_axes(train[~choosing]), labels[~choosing]
    asked, asked_labels = train[choosing], labels[choosing].cpu()
    counts: list[int] = []
    for inverse_penalty in INVERSE_PENALTIES:
        ranks.leave_when_asked()
        logits = fit(shown, shown_labels, num_classes, inverse_penalty).logits(asked)
        count = (_outcome(logits, asked_labels).margins > 0).sum()
        counts.append(int(ranks.all_gather(count)[0]))
        # The weaker the penalty, the longer the fit takes.
        if len(counts) - counts.index(max(counts)) > NO_BETTER:
            break
    return INVERSE_PENALTIES[counts.index(max(counts))], max(counts), len(asked)


def _nearest_neighbours(
    test: Float[Tensor, "N E"],
    labels: Int64[Tensor, " N"],
    train: Float[Tensor, "T E"],
    train_labels: Int64[Tensor, " T"],
    num_classes: int,
    ranks: Ranks,
) -> "Outcome":
    """How the votes of the nearest come out. Test picture n belongs to rank n mod W."""
    margins = torch.zeros(len(test))
    numbers = torch.zeros(2, len(test), dtype=torch.int64)
    own = torch.arange(ranks.rank, len(test), ranks.world_size)
    if len(own):
        scores, places = nearest(Vectors(test, own), Vectors(train), NEIGHBOURS)
        # Less one in the exponent: the same order, and no weight above one.
        weights = ((scores - 1) / TEMPERATURE).exp()
        votes = torch.zeros(len(own), num_classes, dtype=torch.float64)
        votes.scatter_add_(1, train_labels[places], weights)
        outcome = _outcome((votes / votes.sum(dim=1, keepdim=True)).float(), labels[own])
        margins[own] = outcome.margins
        numbers[:, own] = torch.stack([outcome.before, outcome.given])
    before, given = ranks.sum_counts(numbers)
    # Each place is 0 but at the rank that it belongs to, so the sum is exact.
    return Outcome(ranks.all_gather(margins).sum(dim=0), before, given)


def _outcome(scores: Float32[Tensor, "N C"], labels: Int64[Tensor, " N"]) -> "Outcome":
    right = scores.gather(1, labels[:, None])
    others = scores.scatter(1, labels[:, None], -torch.inf)
    best, given = others.max(dim=1)
    before = (others >= right).sum(dim=1)
    margins = (right[:, 0] - best).nan_to_num(nan=-torch.inf)
    return Outcome(margins, before, given)


def _share(right: Bool[Tensor, " N"]) -> float:
    return int(right.sum()) / len(right)


def _mean_recall(right: Bool[Tensor, " N"], labels: Int64[Tensor, " N"]) -> float:
    totals = torch.bincount(labels)
    hits = torch.bincount(labels[right], minlength=len(totals))
    return float((hits[totals > 0].double() / totals[totals > 0]).mean())


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
