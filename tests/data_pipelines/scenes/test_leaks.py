"""Classifiers that see no order of words, or no picture, learn nothing about swaps and relations."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from scene_groups import by_split

from data_pipelines.scenes.scene import CONVERSES, stands

pytestmark = pytest.mark.long

RELATION_WORDS = {
    "left", "right", "above", "higher", "over", "below", "lower", "under", "larger", "bigger",
    "smaller", "tinier", "front", "covering", "behind", "covered", "more", "fewer",
}  # fmt: skip
KINDS = ("swap objects", "swap attributes", "relation")


@pytest.fixture(scope="module")
def many(source):
    """Samples with foils."""
    made = by_split(replace(source, seed=5), {"val": range(1000), "test": range(1000)})
    return made["val"] + made["test"]


def words_of(text):
    return text.lower().removesuffix(".").split()


def text_alone(_, text):
    """Words and pairs of neighbours."""
    words = words_of(text)
    return [*words, *(" ".join(pair) for pair in pairwise(words))]


def bag_and_scene(scene, text):
    """All that holds between two things of the scene, beside each word that could say so."""
    words = set(words_of(text))
    features = []
    for one, other in permutations(scene.things, 2):
        named = [thing.kind in words for thing in (one, other)]
        coloured = [thing.colour in words for thing in (one, other)]
        for relation in CONVERSES:
            if stands(relation, one, other):
                for word in words & RELATION_WORDS:
                    features.append(f"{relation} {word} {named}")
                    features.append(f"{relation} {word} {coloured}")
                    if all(named):
                        features.append(f"{relation} {word} {one.kind} {other.kind}")
                        features.append(f"{relation} {word} {one.kind < other.kind}")
    for (kind, colour), number in Counter(thing[:2] for thing in scene.things).items():
        if {kind, f"{kind}s"} & words:
            features += [f"{number} {colour} {word}" for word in words & {colour, "more", "fewer"}]
    return features


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features_of", [text_alone, bag_and_scene])
def test_a_trained_classifier_stays_at_chance(many, kind, features_of):
    feature_extraction = pytest.importorskip("sklearn.feature_extraction")
    linear_model = pytest.importorskip("sklearn.linear_model")
    asked = [
        (number // 4, sample.sibling.scene, sample.caption, text)
        for number, sample in enumerate(many)
        for foil, text in sample.foils
        if foil == kind
    ]
    hasher = feature_extraction.FeatureHasher(2**16, input_type="string")
    right = hasher.transform([features_of(scene, caption) for _, scene, caption, _ in asked])
    wrong = hasher.transform([features_of(scene, foil) for _, scene, _, foil in asked])
    # Which of the two is right: every second question the other way round.
    labels = np.arange(len(asked)) % 2
    differences = (right - wrong).multiply((2 * labels - 1)[:, None]).tocsr()
    # Siblings stay on one side.
    train = np.array([group for group, *_ in asked]) < asked[len(asked) // 2][0]
    model = linear_model.LogisticRegression(C=0.3, fit_intercept=False, max_iter=300)
    model.fit(differences[train], labels[train])
    accuracy = model.score(differences[~train], labels[~train])
    number = np.count_nonzero(~train)
    assert number > 250
    # Siblings share words, so that questions count for less than their number.
    assert abs(accuracy - 0.5) < 4 * 0.5 / number**0.5
