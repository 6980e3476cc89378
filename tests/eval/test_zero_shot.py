"""Classifiers and accuracies on toy classes."""

import pytest
import torch
from torch.nn.functional import normalize

from eval.ranks import Ranks
from eval.zero_shot import (
    accuracies,
    chance_accuracies,
    class_vectors,
    classifier,
    count_correct,
    right_classes,
)

ONE = Ranks()
NAMES = ["ant", "bee", "cat"]


def test_a_class_is_the_unit_mean_of_its_templates_unit_vectors():
    features = torch.tensor([[[3.0, 0.0], [0.0, 0.1]]])
    torch.testing.assert_close(classifier(features), torch.full((1, 2), 0.5**0.5))


def test_counts_by_class_give_accuracy_and_mean_per_class_recall():
    # Scores are the pictures themselves; labels 0, 0, 0, 2: three of four right, classes 2/3 and 1.
    images = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.1, 0.2], [0.1, 0.9, 0.5], [0.1, 0.2, 0.9]])
    labels = torch.tensor([0, 0, 0, 2])
    correct = count_correct(images, torch.eye(3), labels, NAMES, ONE, ks=(1, 2, 3))
    assert correct.tolist() == [[2, 2, 3], [0, 0, 0], [1, 1, 1]]
    metrics = accuracies(correct, labels, ks=(1, 2, 3))
    assert metrics["acc1"] == 0.75
    assert metrics["acc2"] == 0.75
    assert metrics["acc3"] == 1.0
    assert metrics["mean_per_class_recall"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_with_an_equal_score_stands_before_the_right_one():
    labels = torch.tensor([0, 1, 2])
    correct = count_correct(torch.ones(3, 3), torch.eye(3), labels, NAMES, ONE, ks=(1, 2, 3))
    assert correct.sum(dim=0).tolist() == [0, 0, 3]


def test_of_two_classes_with_one_name_the_first_wins_as_with_an_arg_max():
    names = ["missile", "moon", "missile"]
    labels = torch.tensor([0, 1, 2])
    assert right_classes(labels, names).tolist() == [[0, 0], [0, 2], [1, 1], [2, 2]]
    vectors = torch.eye(3)[[0, 1, 0]]
    correct = count_correct(vectors, vectors, labels, names, ONE, ks=(1, 2))
    assert correct.tolist() == [[1, 1], [1, 1], [0, 1]]


def test_more_cut_offs_than_classes_are_harmless():
    labels = torch.tensor([0, 1, 2])
    correct = count_correct(-torch.eye(3), torch.eye(3), labels, NAMES, ONE)
    assert accuracies(correct, labels)["acc5"] == 1.0
    assert chance_accuracies(labels, 3)["acc5"] == 1.0


def test_classifiers_do_not_depend_on_how_many_sentences_are_held_at_once(monkeypatch, toy_encoder):
    templates = ("{}", "a photo of a {}.", "{} and {}")
    names = [f"class {number}" for number in range(50)]
    whole = class_vectors(toy_encoder, names, templates, ["deep"], ONE)["deep"]
    monkeypatch.setattr("eval.zero_shot.SENTENCES_AT_ONCE", 21)
    parts = class_vectors(toy_encoder, names, templates, ["deep"], ONE)["deep"]
    torch.testing.assert_close(parts, whole)
    sentences = ["class 7", "a photo of a class 7.", "class 7 and class 7"]
    vectors = toy_encoder.encode_texts(sentences, ["deep"])["deep"]
    torch.testing.assert_close(whole[7], normalize(vectors.mean(dim=0), dim=0))


def test_chance_is_one_in_the_number_of_classes():
    chance = chance_accuracies(torch.tensor([0, 3]), 1000)
    assert chance == pytest.approx({"acc1": 0.001, "acc5": 0.005, "mean_per_class_recall": 0.001})
