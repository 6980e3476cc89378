"""A class from its sentences."""

import pytest
import torch
from torch.nn.functional import normalize

from eval.class_texts import class_features, sentences_of
from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.task_kinds import ZeroShotTask

ONE = Ranks()
NAMES = ["ant", "bee", "cat"]


def task_of(names, **sentences):
    return ZeroShotTask(
        name="zero_shot:toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="0", num_pictures=1, read=lambda number: None),
        class_names=names,
        labels=torch.tensor([0]),
        rule="as drawn",
        **sentences,
    )


def test_a_class_is_the_unit_mean_of_its_sentences_unit_vectors(toy_encoder):
    task = task_of(["elk", "fox"], templates=("{}", "a photo of a {}.", "{} and {}"))
    sentences = sentences_of(task)
    assert sentences[1] == ["fox", "a photo of a fox.", "fox and fox"]
    vectors = class_features(toy_encoder, sentences, ["deep"], ONE)["deep"]
    features = toy_encoder.encode_texts(sentences[1], ["deep"])["deep"]
    torch.testing.assert_close(vectors[1], normalize(features.mean(dim=0), dim=0))


def test_a_data_set_may_write_the_sentences_of_each_class_itself(toy_encoder):
    written = [["striped insect", "it stings"], ["purrs"], ["a", "b", "c"]]
    task = task_of(NAMES, class_sentences=written, templates=("a {}",))
    assert sentences_of(task) == written
    vectors = class_features(toy_encoder, written, ["deep"], ONE)["deep"]
    features = toy_encoder.encode_texts(["purrs"], ["deep"])["deep"]
    torch.testing.assert_close(vectors[1], features[0])


@pytest.mark.parametrize("at_once", [1, 21, 64])
def test_no_more_sentences_are_held_than_allowed_and_classifiers_do_not_depend_on_it(
    monkeypatch, toy_encoder, at_once
):
    sentences = [[f"class {number}", f"a {number}", f"the {number}"] for number in range(30)]
    whole = class_features(toy_encoder, sentences, ["deep"], ONE)["deep"]
    monkeypatch.setattr("eval.class_texts.SENTENCES_AT_ONCE", at_once)
    toy_encoder.string_batches.clear()
    parts = class_features(toy_encoder, sentences, ["deep"], ONE)["deep"]
    assert max(len(set(batch)) for batch in toy_encoder.string_batches) <= at_once
    torch.testing.assert_close(parts, whole)


def test_classes_with_the_same_sentences_have_the_same_vector_whatever_the_encoder_does(
    monkeypatch, toy_encoder
):
    monkeypatch.setattr("eval.class_texts.SENTENCES_AT_ONCE", 2)
    encode_texts = toy_encoder.encode_texts

    def jittery(strings, variants):
        """The last bits depend on the batch, as with a product of matrices."""
        noise = 1e-7 * len(toy_encoder.string_batches)
        return {v: rows + noise for v, rows in encode_texts(strings, variants).items()}

    toy_encoder.encode_texts = jittery
    sentences = [["a missile"], ["a moon"], ["a crane"], ["a missile"]]
    vectors = class_features(toy_encoder, sentences, ["deep"], ONE)["deep"]
    assert vectors[0].tolist() == vectors[3].tolist()
