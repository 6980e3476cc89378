"""Whether a model sees how words belong together: captions and foils, and pairs of pictures.

A foil uses nearly the words of the caption, so one who sees words alone can only guess.

Axes: N pictures, M texts, E the shared embedding, A answers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_pipelines.errors import UserError
from eval.bootstrap import Interval, interval_of_class_mean, interval_of_mean
from eval.measured import Measured
from eval.ranking import MARGIN
from eval.ranks import Ranks
from eval.scores import Vectors, pair_scores
from eval.task_kinds import Choice, CompositionalTask, Pairing

MOST_KINDS = 20
LEAST_QUESTIONS = 25
"""Where there are more than MOST_KINDS kinds, those with fewer questions get no number of their own."""
MOST_MISTAKES = 24
MEAN_OVER_KINDS = "mean_per_kind_accuracy"
GROUP_CHANCE = 1 / 6
"""Of four scores in random order both right ones are above both wrong ones in 2! 2! of 4! orders."""


def measure(
    task: CompositionalTask,
    image_features: Float[Tensor, "N E"],
    text_features: Float[Tensor, "M E"],
    *,
    usable: Bool[Tensor, " N"],
    ranks: Ranks,
) -> Measured:
    """Accuracy on choices, and text, image and group score on pairings, over all and by kind.

    Features are those of all pictures and texts of the task, in its order; a question with a picture
    that is not usable is not asked. Right is what scores above every wrong answer: ties and scores
    that are no number count against the model. Every rank computes everything, there is little to
    share.
    """
    questions = asked(task, usable)
    if not questions:
        raise UserError(
            f"{task.name}: none of its {len(task.questions):,} questions can be asked; "
            "look at the data"
        )
    pairs = list(dict.fromkeys(pair for question in questions for pair in _pairs(question)))
    values = pair_scores(Vectors(image_features), Vectors(text_features), torch.tensor(pairs))
    scores = dict(zip(pairs, values.tolist(), strict=True))
    answers = [answer for question in questions for answer in _answers(question, scores)]
    groups = _by_metric(answers)
    numbers = {name: _numbers(group) for name, group in groups.items()}
    by_kind = [name for name in groups if name.startswith("accuracy:")]
    if by_kind:
        numbers[MEAN_OVER_KINDS] = _mean_over_kinds(
            [numbers[name] for name in by_kind], [groups[name] for name in by_kind]
        )
    return Measured(
        metrics={name: number.share for name, number in numbers.items()},
        chance={name: number.chance for name, number in numbers.items()},
        intervals={name: number.interval for name, number in numbers.items()},
        near_ties={name: number.near_ties for name, number in numbers.items()},
        mistakes=_mistakes(task, questions, scores),
    )


def asked(task: CompositionalTask, usable: Bool[Tensor, " N"]) -> list[Choice | Pairing]:
    """The questions all whose pictures can be shown."""
    shown = usable.tolist()
    return [
        question
        for question in task.questions
        if all(shown[picture] for picture in pictures_of(question))
    ]


def pictures_of(question: Choice | Pairing) -> tuple[int, ...]:
    """The pictures that a question shows."""
    return (question.picture,) if isinstance(question, Choice) else question.pictures


def _pairs(question: Choice | Pairing) -> list[tuple[int, int]]:
    texts = (*question.right, *question.wrong) if isinstance(question, Choice) else question.texts
    return [(picture, text) for picture in pictures_of(question) for text in texts]


def _answers(
    question: Choice | Pairing, scores: dict[tuple[int, int], float]
) -> Iterator["Answer"]:
    if isinstance(question, Choice):
        margin = _margin(question, scores)
        chance = len(question.right) / (len(question.right) + len(question.wrong))
        yield Answer("accuracy", question.kind, margin, chance)
        return
    text = min(_margin(choice, scores) for choice in _choices_of_text(question))
    (first, second), (one, other) = question.pictures, question.texts
    image = min(
        _difference(scores[first, one], scores[second, one]),
        _difference(scores[second, other], scores[first, other]),
    )
    yield Answer("text_score", question.kind, text, 1 / 4)
    yield Answer("image_score", question.kind, image, 1 / 4)
    yield Answer("group_score", question.kind, min(text, image), GROUP_CHANCE)


def _choices_of_text(question: Pairing) -> list[Choice]:
    """The two questions for a text that a pairing holds."""
    one, other = question.texts
    return [
        Choice(picture=question.pictures[0], right=(one,), wrong=(other,), kind=question.kind),
        Choice(picture=question.pictures[1], right=(other,), wrong=(one,), kind=question.kind),
    ]


def _margin(choice: Choice, scores: dict[tuple[int, int], float]) -> float:
    """By how much the best right text scores above the best wrong one."""
    right = max(_or(scores[choice.picture, text], -float("inf")) for text in choice.right)
    wrong = max(_or(scores[choice.picture, text], float("inf")) for text in choice.wrong)
    return _difference(right, wrong)


def _difference(right: float, wrong: float) -> float:
    # inf - inf is no number, and max and min would treat that as they like.
    return _or(right - wrong, -float("inf"))


def _or(score: float, instead: float) -> float:
    return score if score == score else instead


def _by_metric(answers: Sequence["Answer"]) -> dict[str, list["Answer"]]:
    """The answers that each metric counts, under the metrics' names."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.metric, []).append(answer)
    for metric, group in list(groups.items()):
        kinds: dict[str, list[Answer]] = {}
        for answer in group:
            kinds.setdefault(answer.kind, []).append(answer)
        for kind, own in sorted(kinds.items()) if len(kinds) > 1 else ():
            if len(kinds) <= MOST_KINDS or len(own) >= LEAST_QUESTIONS:
                groups[f"{metric}:{kind}"] = own
    return groups


def _numbers(answers: Sequence["Answer"]) -> "Numbers":
    """What the answers come to."""
    right = _right(answers)
    return Numbers(
        share=float(right.mean()),
        chance=sum(answer.chance for answer in answers) / len(answers),
        interval=interval_of_mean(right.astype(float)),
        near_ties=sum(abs(answer.margin) <= MARGIN for answer in answers),
    )


def _mean_over_kinds(
    kinds: Sequence["Numbers"], answers: Sequence[Sequence["Answer"]]
) -> "Numbers":
    """The mean of the kinds, each of which counts the same."""
    return Numbers(
        share=sum(kind.share for kind in kinds) / len(kinds),
        chance=sum(kind.chance for kind in kinds) / len(kinds),
        interval=interval_of_class_mean(
            np.concatenate([_right(own) for own in answers]),
            np.repeat(np.arange(len(answers)), [len(own) for own in answers]),
        ),
        near_ties=sum(kind.near_ties for kind in kinds),
    )


def _right(answers: Sequence["Answer"]) -> Bool[np.ndarray, " A"]:
    return np.array([answer.margin > 0 for answer in answers])


def _mistakes(
    task: CompositionalTask,
    questions: Sequence[Choice | Pairing],
    scores: dict[tuple[int, int], float],
) -> list[dict[str, object]]:
    """The wrong texts that scored furthest above the right ones."""
    mistakes = []
    for question in questions:
        choices = [question] if isinstance(question, Choice) else _choices_of_text(question)
        for choice in choices:
            margin = _margin(choice, scores)
            # What is not finite has no place in JSON.
            if -float("inf") < margin <= 0:
                right = max(choice.right, key=lambda text: scores[choice.picture, text])
                given = max(choice.wrong, key=lambda text: scores[choice.picture, text])
                mistakes.append((-margin, choice.picture, right, given))
    mistakes.sort(key=lambda mistake: (-mistake[0], *mistake[1:]))
    return [
        {
            "picture": picture,
            "right": task.texts[right],
            "given": task.texts[given],
            "margin": margin,
        }
        for margin, picture, right, given in mistakes[:MOST_MISTAKES]
    ]


class Answer(NamedTuple):
    """How one question came out for one metric."""

    metric: str
    kind: str
    margin: float
    """Score of the right answer minus that of the best wrong one; right where above 0."""
    chance: float
    """How often a random order of the scores is right."""


class Numbers(NamedTuple):
    """What the answers that one metric counts come to."""

    share: float
    chance: float
    interval: Interval
    near_ties: int
