"""Accuracies on toy classes."""

import pytest
import torch

from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.task_kinds import ZeroShotTask, no_pairs
from eval.zero_shot import measure, with_later_namesakes

ONE = Ranks()
NAMES = ["ant", "bee", "cat"]


def task_of(labels, names, *, also_right=None):
    return ZeroShotTask(
        name="zero_shot:toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="0", num_pictures=len(labels), read=lambda number: None),
        class_names=names,
        labels=torch.tensor(labels),
        also_right=no_pairs() if also_right is None else torch.tensor(also_right),
        rule="as drawn",
    )


def measured(scores, labels, names=NAMES, *, usable=None, also_right=None):
    """What is measured where the products of pictures and classes are the given scores."""
    usable = torch.tensor(usable or [True] * len(labels))
    task = task_of(labels, names, also_right=also_right)
    return measure(task, torch.tensor(scores), torch.eye(len(names)), usable=usable, ranks=ONE)


def test_accuracies_classes_confusions_and_mistakes_by_hand():
    # Three of four are right; classes reach 2/3 and 1.
    scores = [[0.75, 0.125, 0.25], [0.75, 0.125, 0.25], [0.125, 0.75, 0.5], [0.125, 0.25, 0.75]]
    found = measured(scores, [0, 0, 0, 2])
    assert found.metrics == {
        "acc1": 0.75,
        "acc5": 1.0,
        "mean_per_class_recall": pytest.approx((2 / 3 + 1) / 2),
    }
    assert found.chance == pytest.approx(
        {"acc1": 1 / 3, "acc5": 1.0, "mean_per_class_recall": 1 / 3}
    )
    assert found.per_class == [
        {"class": "ant", "pictures": 3, "acc1": pytest.approx(2 / 3), "acc5": 1.0},
        {"class": "cat", "pictures": 1, "acc1": 1.0, "acc5": 1.0},
    ]
    assert found.confusions == [{"right": "ant", "given": "bee", "count": 1}]
    assert found.mistakes == [{"picture": 2, "right": "ant", "given": "bee", "margin": 0.625}]
    for name, (low, high) in found.intervals.items():
        assert 0 <= low <= found.metrics[name] <= high <= 1
    assert set(found.near_ties) == set(found.intervals) == set(found.metrics)


def test_a_class_with_an_equal_score_stands_before_the_right_one():
    found = measured([[0.5] * 6] * 6, list(range(6)), [f"class {n}" for n in range(6)])
    assert (found.metrics["acc1"], found.metrics["acc5"]) == (0.0, 0.0)
    assert found.near_ties == {"acc1": 6, "acc5": 6, "mean_per_class_recall": 6}


def test_a_picture_is_right_by_any_class_that_it_also_shows():
    scores = [[0.5, 0.75, 0.25], [0.5, 0.75, 0.25]]
    found = measured(scores, [0, 0], also_right=[(1, 1), (1, 0), (1, 1)])
    assert found.metrics["acc1"] == 0.5
    assert found.chance["acc1"] == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_pictures_that_do_not_count_are_left_out_and_others_keep_their_numbers():
    scores = [[0.25, 0.5, 0.0], [0.5, 0.25, 0.0], [0.25, 0.5, 0.0]]
    found = measured(scores, [0, 0, 0], usable=[False, True, True], also_right=[(0, 1)])
    assert found.metrics["acc1"] == 0.5
    assert [mistake["picture"] for mistake in found.mistakes] == [2]
    assert found.per_class[0]["pictures"] == 2


def test_of_two_classes_with_one_name_the_first_wins_as_with_an_arg_max():
    names = ["missile", "moon", "missile"]
    shown = torch.tensor([(0, 0), (1, 1), (2, 2)])
    assert with_later_namesakes(shown, names).tolist() == [[0, 0], [0, 2], [1, 1], [2, 2]]
    vectors = torch.eye(3)[[0, 1, 0]]
    task = task_of([0, 1, 2], names)
    found = measure(task, vectors, vectors, usable=torch.ones(3, dtype=torch.bool), ranks=ONE)
    assert found.metrics["acc1"] == 2 / 3
    assert found.confusions == [{"right": "missile", "given": "missile", "count": 1}]


def test_more_cut_offs_than_classes_are_harmless():
    found = measured((-torch.eye(3)).tolist(), [0, 1, 2])
    assert found.metrics["acc5"] == found.chance["acc5"] == 1.0


def test_the_most_frequent_confusions_come_first_and_no_more_than_twenty():
    names = [f"class {number}" for number in range(30)]
    labels = [number for number in range(29) for _ in range(1 + (number == 7))]
    scores = [[float(c == label + 1) for c in range(30)] for label in labels]
    found = measured(scores, labels, names)
    assert found.confusions[0] == {"right": "class 7", "given": "class 8", "count": 2}
    assert [c["right"] for c in found.confusions[1:4]] == ["class 0", "class 1", "class 2"]
    assert len(found.confusions) == 20
