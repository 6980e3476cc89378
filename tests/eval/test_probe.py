"""The linear probe and the nearest neighbours, beside scikit-learn and a loop."""

import math
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from eval import probe
from eval.picture_sets import PictureSet
from eval.probe import held_out, measure
from eval.ranks import Ranks
from eval.task_kinds import ProbeTask

NUM_CLASSES = 6


@pytest.fixture(autouse=True)
def _few_penalties(monkeypatch):
    """Weak penalties take scikit-learn, and us, many steps."""
    monkeypatch.setattr(probe, "INVERSE_PENALTIES", (0.01, 0.1, 1.0, 10.0))


def toy(seed=0, num_train=240, num_test=130, noise=1.0):
    """A task, test vectors and training vectors: classes around centres, and what no class explains."""
    draws = torch.Generator().manual_seed(seed)
    centres = torch.randn(NUM_CLASSES, 12, generator=draws)

    def some(number):
        labels = torch.randint(NUM_CLASSES, (number,), generator=draws)
        spread = noise * torch.randn(number, 12, generator=draws)
        return normalize(centres[labels] + spread + 1, dim=1), labels

    (train, train_labels), (test, labels) = some(num_train), some(num_test)
    task = ProbeTask(
        name="probe:toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="a", num_pictures=num_test, read=lambda n: None),
        labels=labels,
        train_pictures=PictureSet(fingerprint="b", num_pictures=num_train, read=lambda n: None),
        train_labels=train_labels,
        class_names=[f"class {n}" for n in range(NUM_CLASSES)],
        rule="",
    )
    return task, test, train


def probed(task, test, train, ranks=None, broken=()):
    usable = torch.ones(len(test), dtype=torch.bool)
    usable[list(broken)] = False
    return measure(task, test, train, usable=usable, ranks=ranks or Ranks())


@pytest.mark.parametrize(("noise", "expected"), [(1.0, 1.0), (1.5, 0.1)])
def test_the_linear_probe_is_as_good_as_scikit_learns_with_the_penalty_that_it_chose(
    noise, expected
):
    task, test, train = toy(noise=noise)
    result = probed(task, test, train)
    chosen = float(result.notes[0].split("C = ")[1].split()[0])
    part = held_out(task.train_labels)

    def theirs(rows, inverse_penalty):
        model = LogisticRegression(C=inverse_penalty, tol=1e-7, max_iter=2000)
        return model.fit(train[rows].double().numpy(), task.train_labels[rows].numpy())

    shares = {
        c: theirs(~part, c).score(train[part].double().numpy(), task.train_labels[part].numpy())
        for c in probe.INVERSE_PENALTIES
    }
    assert chosen == max(shares, key=shares.get) == expected
    best = theirs(torch.ones_like(part), chosen)
    accuracy = best.score(test.double().numpy(), task.labels.numpy())
    assert result.metrics["linear_probe_acc1"] == pytest.approx(accuracy)
    assert 0.5 < accuracy < 0.95


def test_neighbours_vote_as_scikit_learns_do_with_the_same_weights():
    task, test, train = toy()
    result = probed(task, test, train)
    # For unit vectors, half the squared distance is one minus the cosine.
    model = KNeighborsClassifier(
        n_neighbors=20, algorithm="brute", weights=lambda distance: torch.tensor(
            -(distance**2) / 2 / 0.07).exp().numpy()
    )  # fmt: skip
    model.fit(train.double().numpy(), task.train_labels.numpy())
    accuracy = model.score(test.double().numpy(), task.labels.numpy())
    assert result.metrics["knn_acc1"] == pytest.approx(accuracy)
    assert 0.5 < accuracy < 0.95


def test_recalls_chance_confusions_and_mistakes_are_those_of_a_loop():
    task, test, train = toy(noise=1.5)
    result = probed(task, test, train)
    right_of = defaultdict(list)
    for row in result.per_class:
        right_of[row["class"]] = [row["acc1"]] * row["pictures"]
        assert row["acc1"] <= row["acc5"] <= 1
    everyone = [share for shares in right_of.values() for share in shares]
    assert result.metrics["linear_probe_acc1"] == pytest.approx(sum(everyone) / len(everyone))
    recalls = [shares[0] for shares in right_of.values()]
    mean = sum(recalls) / len(recalls)
    assert result.metrics["linear_probe_mean_per_class_recall"] == pytest.approx(mean)
    frequent = Counter(task.train_labels.tolist()).most_common(1)[0][0]
    share = task.labels.tolist().count(frequent) / len(task.labels)
    assert result.chance["knn_acc1"] == result.chance["linear_probe_acc1"] == share
    assert result.chance["knn_mean_per_class_recall"] == pytest.approx(1 / NUM_CLASSES)
    assert set(result.intervals) == set(result.metrics) == set(result.near_ties)
    for name, (low, high) in result.intervals.items():
        assert low < result.metrics[name] < high
    num_wrong = round(len(task.labels) * (1 - result.metrics["linear_probe_acc1"]))
    assert sum(row["count"] for row in result.confusions) == num_wrong > 24
    assert len(result.mistakes) == 24
    margins = [mistake["margin"] for mistake in result.mistakes]
    assert margins == sorted(margins, reverse=True)
    for mistake in result.mistakes:
        assert mistake["right"] == task.class_names[task.labels[mistake["picture"]]]
        assert mistake["given"] != mistake["right"]


def test_the_same_at_one_two_and_three_ranks(run_on_ranks):
    task, test, train = toy(num_train=60, num_test=50)
    alone = vars(probed(task, test, train))
    for world_size in (2, 3):
        results = run_on_ranks(lambda ranks: vars(probed(task, test, train, ranks)), world_size)
        assert results == [alone] * world_size


def test_pictures_that_are_missing_neither_teach_nor_count():
    task, test, train = toy(num_train=60, num_test=40)
    few = replace(
        task,
        labels=task.labels[3:],
        train_labels=task.train_labels[:-20],
        class_names=task.class_names,
    )
    expected = probed(few, test[3:], train[:-20])
    # Vectors of broken pictures mean nothing.
    test, train = test.clone(), train.clone()
    test[:3], train[-20:] = math.nan, math.nan
    untaught = dict.fromkeys(range(40, 60), "not a picture")
    result = probed(replace(task, train_missing=untaught), test, train, broken=range(3))
    assert result.metrics == expected.metrics
    assert [m["picture"] for m in result.mistakes] == [m["picture"] + 3 for m in expected.mistakes]


def test_a_class_that_nothing_was_learned_of_is_never_right():
    task, test, train = toy()
    known = task.train_labels != 2
    part = replace(task, train_labels=task.train_labels[known])
    result = probed(part, test, train[known])
    rows = {row["class"]: row for row in result.per_class}
    assert rows["class 2"]["acc1"] == rows["class 2"]["acc5"] == 0
    assert result.metrics["knn_acc1"] > 0.4


def test_one_picture_of_each_class_is_enough_to_learn_from():
    task, test, train = toy()
    first = [task.train_labels.tolist().index(n) for n in range(NUM_CLASSES)]
    result = probed(replace(task, train_labels=task.train_labels[first]), test, train[first])
    assert result.metrics["linear_probe_acc1"] > 0.3
    assert "(0 of 0 held-out pictures right)" in result.notes[0]


def test_one_class_alone_is_a_mistake():
    task, test, train = toy(num_train=10)
    with pytest.raises(UserError, match="of 1 classes; a probe needs two"):
        probed(replace(task, train_labels=torch.zeros(10, dtype=torch.int64)), test, train)


def test_a_fifth_of_each_class_is_held_out_and_never_all_of_it():
    labels = torch.tensor([0] * 100 + [1] * 7 + [2] * 2 + [3])
    chosen = held_out(labels)
    assert torch.bincount(labels[chosen], minlength=4).tolist() == [20, 2, 1, 0]
    assert torch.equal(chosen, held_out(labels))
