"""Retrieval on matrices small enough to check by eye, and against CLIP_benchmark's functions."""

import pytest
import torch
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k
from torch.nn.functional import normalize

from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.retrieval import measure, pairs_of_keys, texts_asked
from eval.task_kinds import RetrievalTask

ONE = Ranks()


def task_of(pairs, num_pictures, num_texts):
    return RetrievalTask(
        name="retrieval:toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="0", num_pictures=num_pictures, read=lambda number: None),
        texts=[f"text {number}" for number in range(num_texts)],
        right_pairs=torch.tensor(pairs),
        rule="as drawn",
    )


def measured(scores, pairs, usable=None):
    """What is measured where the products of pictures and texts are the given scores."""
    images = torch.tensor(scores)
    task = task_of(pairs, *images.shape)
    usable = torch.ones(len(images), dtype=torch.bool) if usable is None else torch.tensor(usable)
    return measure(task, images, torch.eye(images.shape[1]), usable=usable, ranks=ONE)


def test_by_hand_with_two_captions_for_each_of_two_pictures():
    # Picture 0 owns texts 0 and 1, picture 1 owns texts 2 and 3.
    scores = [[0.1, 0.9, 0.5, 0.2], [0.8, 0.3, 0.4, 0.7]]
    found = measured(scores, [(0, 0), (0, 1), (1, 2), (1, 3)])
    # Picture 0: text 1 is first, text 0 last. Picture 1: text 0 stands before texts 3 and 2.
    # Texts 1 and 3 find their pictures, text 0 prefers picture 1, text 2 prefers picture 0.
    assert found.metrics == {
        "text_retrieval_recall@1": 0.5,
        "text_retrieval_recall@5": 1.0,
        "text_retrieval_recall@10": 1.0,
        "text_retrieval_median_rank": 1.5,
        "text_retrieval_map": pytest.approx(((1 + 2 / 4) / 2 + (1 / 2 + 2 / 3) / 2) / 2),
        "image_retrieval_recall@1": 0.5,
        "image_retrieval_recall@5": 1.0,
        "image_retrieval_recall@10": 1.0,
        "image_retrieval_median_rank": 1.5,
        "image_retrieval_map": pytest.approx((1 / 2 + 1 + 1 / 2 + 1) / 4),
    }
    (mistake,) = found.mistakes
    assert mistake.pop("margin") == pytest.approx(0.8 - 0.7)
    assert mistake == {"picture": 1, "right": "text 3", "given": "text 0"}
    for values in (found.chance, found.intervals, found.near_ties):
        assert set(values) == set(found.metrics)
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] <= high
    assert found.chance["text_retrieval_recall@1"] == 0.5
    assert found.chance["image_retrieval_recall@5"] == 1.0


def test_a_wrong_candidate_with_the_same_score_stands_first_and_is_counted_as_near():
    found = measured([[0.5, 0.5], [0.5, 0.5]], [(0, 0), (1, 1)])
    assert found.metrics["text_retrieval_recall@1"] == 0.0
    assert found.metrics["text_retrieval_median_rank"] == 2.0
    assert found.near_ties["text_retrieval_recall@1"] == 2
    assert found.near_ties["text_retrieval_recall@5"] == 0


def test_a_text_of_several_pictures_is_found_by_any_of_them():
    pairs = pairs_of_keys(["cat", "cat", "dog"], ["cat", "dog"])
    assert pairs.tolist() == [[0, 0], [1, 0], [2, 1]]
    found = measured([[0.1, 0.2], [0.9, 0.3], [0.5, 0.1]], pairs.tolist())
    assert found.metrics["image_retrieval_recall@1"] == 0.5
    assert found.metrics["image_retrieval_recall@5"] == 1.0


def test_pictures_that_do_not_count_and_their_texts_are_neither_asked_nor_offered():
    # Picture 1 and its text 1 would win everything.
    scores = [[0.5, 0.9, 0.1], [0.9, 0.9, 0.9], [0.1, 0.9, 0.5]]
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2)]
    usable = [True, False, True]
    assert texts_asked(task_of(pairs, 3, 3), torch.tensor(usable)).tolist() == [True, False, True]
    found = measured(scores, pairs, usable)
    assert found.metrics["text_retrieval_recall@1"] == 1.0
    assert found.metrics["image_retrieval_recall@1"] == 1.0
    assert found.chance["text_retrieval_recall@1"] == 0.5
    missed = measured([[0.5, 0.9, 0.1], [0.9, 0.9, 0.9], [0.5, 0.9, 0.1]], pairs, usable)
    # Numbers and words of the whole task.
    assert [(m["picture"], m["right"], m["given"]) for m in missed.mistakes] == [
        (2, "text 2", "text 0")
    ]


def test_recalls_are_clip_benchmarks_where_no_scores_are_equal():
    generator = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(40, 12, generator=generator), dim=-1)
    texts = normalize(torch.randn(200, 12, generator=generator), dim=-1)
    owner = torch.randint(40, (200,), generator=generator)
    owner[:40] = torch.arange(40)
    right = torch.zeros(40, 200, dtype=torch.bool)
    right[owner, torch.arange(200)] = True
    task = task_of(right.nonzero().tolist(), 40, 200)
    found = measure(task, images, texts, usable=torch.ones(40, dtype=torch.bool), ranks=ONE)
    scores = images @ texts.T
    for k in (1, 5, 10):
        for asked, given in (("text", (scores, right)), ("image", (scores.T, right.T))):
            theirs = float((recall_at_k(*given, k) > 0).double().mean())
            assert found.metrics[f"{asked}_retrieval_recall@{k}"] == theirs


def test_no_more_than_the_worst_mistakes_are_told():
    scores = -torch.eye(40)
    found = measured(scores.tolist(), [(n, n) for n in range(40)])
    assert [mistake["picture"] for mistake in found.mistakes] == list(range(24))
