"""Captions against foils and pairs of pictures, beside a second way of counting them."""

import itertools
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from eval import compositional
from eval.compositional import asked, measure
from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.task_kinds import Choice, CompositionalTask, Pairing


def task_of(questions, scores):
    """A task over pictures and texts whose score is `scores[picture, text]`."""
    return CompositionalTask(
        name="compositional:toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="toy", num_pictures=len(scores), read=lambda n: None),
        texts=[f"text {n}" for n in range(scores.shape[1])],
        questions=questions,
        rule="",
    )


def ask(task, images, texts, broken=()):
    usable = torch.ones(len(images), dtype=torch.bool)
    usable[list(broken)] = False
    return measure(task, images, texts, usable=usable, ranks=Ranks())


def measured(questions, scores, broken=()):
    # A picture's vector is its row of scores, a text's vector is a unit vector.
    scores = torch.as_tensor(scores).float()
    texts = torch.eye(scores.shape[1])
    return ask(task_of(questions, scores), scores, texts, broken)


# Few different scores, so that ties are frequent. A vector with what is no number scores nothing else.
ROWS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4)
TABLES = st.lists(ROWS | st.just([math.nan] * 4), min_size=2, max_size=5)


@given(table=TABLES, data=st.data())
def test_choices_are_right_when_the_best_right_text_is_above_every_wrong_one(table, data):
    questions = []
    for picture in range(len(table)):
        places = data.draw(st.permutations(range(4)))
        num_right = data.draw(st.integers(1, 3))
        right, wrong = tuple(places[:num_right]), tuple(places[num_right:])
        kind = data.draw(st.sampled_from("ab"))
        questions.append(Choice(picture=picture, right=right, wrong=wrong, kind=kind))
    result = measured(questions, table)

    def is_right(question):
        # Some right text is above every wrong one; nothing is above or below what is no number.
        row = table[question.picture]
        return any(all(row[r] > row[w] for w in question.wrong) for r in question.right)

    def share(questions):
        return sum(map(is_right, questions)) / len(questions)

    assert result.metrics["accuracy"] == share(questions)
    by_kind = {kind: [q for q in questions if q.kind == kind] for kind in "ab"}
    if all(by_kind.values()):
        for kind, own in by_kind.items():
            assert result.metrics[f"accuracy:{kind}"] == share(own)
        assert result.metrics["mean_per_kind_accuracy"] == sum(map(share, by_kind.values())) / 2
    else:
        assert set(result.metrics) == {"accuracy"}


@given(table=TABLES)
def test_pairings_are_scored_as_winoground_defines_it(table):
    pairings = [
        Pairing(pictures=(a, b), texts=(s, t), kind="all")
        for a, b in itertools.permutations(range(len(table)), 2)
        for s, t in [(0, 1), (2, 3)]
    ]
    result = measured(pairings, table)
    text, image, group = 0, 0, 0
    for p in pairings:
        (a, b), (s, t) = p.pictures, p.texts
        text_right = table[a][s] > table[a][t] and table[b][t] > table[b][s]
        image_right = table[a][s] > table[b][s] and table[b][t] > table[a][t]
        text, image = text + text_right, image + image_right
        group += text_right and image_right
    assert result.metrics == {
        "text_score": text / len(pairings),
        "image_score": image / len(pairings),
        "group_score": group / len(pairings),
    }


def test_chance_is_what_all_orders_of_the_scores_reach_on_average():
    questions = [
        Choice(picture=0, right=(0,), wrong=(1, 2, 3), kind="a"),
        Choice(picture=1, right=(0, 3), wrong=(1,), kind="b"),
        Pairing(pictures=(0, 1), texts=(0, 1), kind="a"),
    ]
    totals = {}
    # The first question's four scores and the second's; then the pairing's four.
    for order in itertools.permutations([0.1, 0.2, 0.3, 0.4]):
        for own, row in ((questions[:1], 0), (questions[1:2], 1)):
            table = [[0.0] * 4, [0.0] * 4]
            table[row] = list(order)
            for name, value in measured(own, table).metrics.items():
                totals.setdefault((row, name), []).append(value)
        table = [[*order[:2], 0, 0], [*order[2:], 0, 0]]
        for name, value in measured(questions[2:], table).metrics.items():
            totals.setdefault(name, []).append(value)
    mean = {name: sum(values) / len(values) for name, values in totals.items()}
    chance = measured(questions, torch.rand(2, 4)).chance
    assert chance["accuracy:a"] == pytest.approx(mean[0, "accuracy"]) == pytest.approx(1 / 4)
    assert chance["accuracy:b"] == pytest.approx(mean[1, "accuracy"]) == pytest.approx(2 / 3)
    assert chance["accuracy"] == pytest.approx((1 / 4 + 2 / 3) / 2)
    for name in ("text_score", "image_score", "group_score"):
        assert chance[name] == pytest.approx(mean[name])


def test_a_picture_that_cannot_be_used_takes_its_questions_along():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    questions = [Choice(picture=n, right=(0,), wrong=(1,), kind="a") for n in range(3)]
    pairing = Pairing(pictures=(0, 1), texts=(0, 1), kind="a")
    usable = torch.tensor([True, False, True])
    assert asked(task_of([*questions, pairing], scores), usable) == [questions[0], questions[2]]
    assert measured([*questions, pairing], scores, broken=[1]).metrics == {"accuracy": 1.0}
    with pytest.raises(UserError, match="none of its 1 questions"):
        measured([pairing], scores, broken=[1])


def test_what_may_turn_by_a_hair_is_counted_and_the_worst_mistakes_come_first():
    near = 1 - 5e-6
    scores = [[1.0, near], [near, 1.0], [0.5, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 1.0]]
    questions = [Choice(picture=n, right=(0,), wrong=(1,), kind="a") for n in range(6)]
    result = measured(questions, scores)
    assert result.metrics == {"accuracy": 2 / 6}
    assert result.near_ties == {"accuracy": 3}
    assert [mistake["picture"] for mistake in result.mistakes] == [3, 2, 1, 5]
    assert result.mistakes[0] == {
        "picture": 3,
        "right": "text 0",
        "given": "text 1",
        "margin": pytest.approx(0.8),
    }


def test_of_many_kinds_only_those_with_enough_questions_get_a_number(monkeypatch):
    monkeypatch.setattr(compositional, "MOST_KINDS", 2)
    monkeypatch.setattr(compositional, "LEAST_QUESTIONS", 2)
    kinds = ["a", "a", "b", "c", "c"]
    questions = [Choice(picture=0, right=(0,), wrong=(1,), kind=kind) for kind in kinds]
    metrics = measured(questions, [[1.0, 0.0]]).metrics
    assert set(metrics) == {"accuracy", "accuracy:a", "accuracy:c", "mean_per_kind_accuracy"}


def test_intervals_are_those_of_the_share_of_right_questions():
    draws = random.Random(0)
    scores = torch.tensor([[draws.random(), draws.random()] for _ in range(400)])
    questions = [
        Choice(picture=n, right=(0,), wrong=(1,), kind="ab"[n % 4 == 0]) for n in range(400)
    ]
    result = measured(questions, scores)
    assert set(result.intervals) == set(result.metrics) == set(result.chance)
    for name, (low, high) in result.intervals.items():
        share = result.metrics[name]
        number = {"accuracy": 400, "accuracy:a": 300, "accuracy:b": 100}.get(name)
        assert low < share < high
        if number:
            error = math.sqrt(share * (1 - share) / number)
            assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_clip_benchmark_finds_the_same_scores_where_nothing_ties():
    theirs = pytest.importorskip("clip_benchmark.metrics.image_caption_selection")
    draws = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(60, 8, generator=draws), dim=1)
    texts = torch.nn.functional.normalize(torch.randn(60, 8, generator=draws), dim=1)

    class Model:
        """A picture and a tokenized text are their own numbers."""

        def encode_image(self, pictures):
            return images[pictures[:, 0, 0, 0].long()]

        def encode_text(self, numbers):
            return texts[numbers]

    def score(questions):
        loader = [
            (torch.tensor([pictures])[..., None, None, None].float(), [numbers])
            for pictures, numbers in questions
        ]
        return theirs.evaluate(Model(), loader, torch.tensor, "cpu", amp=False)

    pairs = [((n, n + 1), (n, n + 1)) for n in range(0, 60, 2)]
    pairings = [Pairing(pictures=p, texts=t, kind="all") for p, t in pairs]
    ours = ask(task_of(pairings, torch.zeros(60, 60)), images, texts).metrics
    winoground = score(pairs)
    assert ours["text_score"] == pytest.approx(winoground["text_acc"])
    assert ours["image_score"] == pytest.approx(winoground["image_acc"])
    assert ours["group_score"] == pytest.approx(winoground["acc"])
    choices = [Choice(picture=n, right=(n,), wrong=(59 - n,), kind="all") for n in range(60)]
    ours = ask(task_of(choices, torch.zeros(60, 60)), images, texts).metrics
    sugarcrepe = score([((n,), (n, 59 - n)) for n in range(60)])
    assert ours["accuracy"] == pytest.approx(sugarcrepe["text_acc"])
    assert 0 < ours["accuracy"] < 1
