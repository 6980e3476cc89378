"""Recall@k on matrices small enough to check by eye."""

import torch

from eval.ranks import Ranks
from eval.retrieval import chance_recalls, metric_names, pairs_of_keys, recall_counts, recalls

ONE = Ranks()


def features_with_scores(scores):
    """Pictures and texts whose products are the given scores [pictures, texts]."""
    return torch.tensor(scores), torch.eye(len(scores[0]))


def clip_benchmark_recall(scores, right, k):
    """CLIP_benchmark's words: the share of queries with at least one positive among the top k."""
    top = scores.topk(k, dim=1).indices
    return right.gather(1, top).any(dim=1).double().mean().item()


def test_recall_by_hand_with_two_captions_for_each_of_two_pictures():
    # Picture 0 owns texts 0 and 1, picture 1 owns texts 2 and 3.
    images, texts = features_with_scores([[0.1, 0.9, 0.5, 0.2], [0.8, 0.3, 0.4, 0.7]])
    pairs = torch.tensor([(0, 0), (0, 1), (1, 2), (1, 3)])
    assert recall_counts(images, texts, pairs, ONE, ks=(1, 2)).tolist() == [1, 2]
    # Texts 1 and 3 find their pictures, text 0 prefers picture 1, text 2 prefers picture 0.
    assert recall_counts(texts, images, pairs.flip(1), ONE, ks=(1, 2)).tolist() == [2, 4]


def test_a_text_of_several_pictures_is_found_by_any_of_them():
    images, texts = features_with_scores([[0.1, 0.2], [0.9, 0.3], [0.5, 0.1]])
    pairs = pairs_of_keys(["cat", "cat", "dog"], ["cat", "dog"])
    assert pairs.tolist() == [[0, 0], [1, 0], [2, 1]]
    assert recall_counts(texts, images, pairs.flip(1), ONE, ks=(1, 3)).tolist() == [1, 2]


def test_a_wrong_candidate_with_the_same_score_stands_first():
    images, texts = features_with_scores([[0.5, 0.5], [0.5, 0.5]])
    pairs = torch.tensor([(0, 0), (1, 1)])
    assert recall_counts(images, texts, pairs, ONE, ks=(1, 2)).tolist() == [0, 2]


def test_recalls_agree_with_clip_benchmarks_definition_and_names():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 12, generator=generator)
    texts = torch.randn(200, 12, generator=generator)
    owner = torch.randint(40, (200,), generator=generator)
    owner[:40] = torch.arange(40)
    pairs = torch.stack([owner, torch.arange(200)], dim=1)
    right = torch.zeros(40, 200, dtype=torch.bool)
    right[owner, torch.arange(200)] = True
    scores = images @ texts.T
    expected = {f"image_retrieval_recall@{k}": (scores.T, right.T, k) for k in (1, 5, 10)}
    expected |= {f"text_retrieval_recall@{k}": (scores, right, k) for k in (1, 5, 10)}
    measured = recalls(images, texts, pairs, ONE)
    assert list(measured) == metric_names((1, 5, 10)) == list(expected)
    for name, arguments in expected.items():
        assert abs(measured[name] - clip_benchmark_recall(*arguments)) < 1e-12, name


def test_chance_stands_under_the_same_names_and_knows_both_directions():
    pairs = pairs_of_keys(["a", "a", "b"], ["a", "b"])
    chance = chance_recalls(3, 2, pairs, ks=(1,))
    assert chance["text_retrieval_recall@1"] == 0.5
    assert chance["image_retrieval_recall@1"] == (2 / 3 + 1 / 3) / 2
