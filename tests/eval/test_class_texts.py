"""Class vectors: means over sentences, however they are cut; and a cache that is never stale."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import SentencePieceTokenizer, read_model
from eval import class_texts, feature_store
from eval.class_texts import class_features, sentences_of
from eval.feature_store import FeatureStore
from eval.picture_sets import PictureSet
from eval.prompts import openai_templates
from eval.ranks import Ranks
from eval.task_kinds import ZeroShotTask
from rins_mm.config import EMOJI_TOKENIZER

ONE = Ranks()
CLASSES = [["an ant", "a small ant"], ["a bee"], ["an ant", "a bee", "a bee"], ["a bee"]]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache")


def test_a_class_is_the_unit_mean_of_its_sentences_unit_vectors(toy_encoder):
    encode = toy_encoder.encode_texts

    def encode_long_vectors(strings, variants):
        rows = encode(strings, variants)["deep"]
        return {"deep": rows * torch.arange(1.0, len(rows) + 1)[:, None]}

    toy_encoder.encode_texts = encode_long_vectors
    features = class_features(toy_encoder, CLASSES, ["deep"], ONE)["deep"]
    for row, sentences in zip(features, CLASSES, strict=True):
        expected = normalize(encode(sentences, ["deep"])["deep"].mean(dim=0), dim=0)
        torch.testing.assert_close(row, expected)
    assert features[1].equal(features[3])
    assert toy_encoder.string_batches[0][:4] == ["an ant", "a small ant", "a bee", "a bee"]


def test_class_vectors_do_not_depend_on_how_many_sentences_are_held_at_once(
    monkeypatch, toy_encoder
):
    classes = [[f"{n}", f"a {n}", f"{n} and {n + 1}", f"a {n + 1}"] for n in range(150)]
    whole = class_features(toy_encoder, classes, ["flat", "deep"], ONE)
    monkeypatch.setattr("eval.class_texts.SENTENCES_AT_ONCE", 1)
    monkeypatch.setattr("eval.class_texts.CALLS_AT_ONCE", 2)
    parts = class_features(toy_encoder, classes, ["flat", "deep"], ONE)
    for variant, features in whole.items():
        assert parts[variant].equal(features)


def test_classes_with_the_same_sentences_have_the_same_vector_whatever_the_encoder_does(
    monkeypatch, toy_encoder
):
    encode_texts = toy_encoder.encode_texts

    def jittery(strings, variants):
        """The last bits depend on the place, as with a product of matrices."""
        noise = torch.rand(len(strings), 1) * 1e-7
        return {v: rows + noise for v, rows in encode_texts(strings, variants).items()}

    toy_encoder.encode_texts = jittery
    sentences = [["a missile"], ["a moon"], *([f"{n}"] for n in range(100)), ["a missile"]]
    vectors = class_features(toy_encoder, sentences, ["deep"], ONE)["deep"]
    assert vectors[0].equal(vectors[-1])


def test_a_class_without_sentences_is_refused(toy_encoder):
    with pytest.raises(UserError, match="class 1 has no sentences"):
        class_features(toy_encoder, [["a"], []], ["deep"], ONE)


def test_sentences_are_the_name_in_each_template_or_those_of_the_data_set():
    pictures = PictureSet(fingerprint="none", num_pictures=0, read=lambda number: "")
    task = ZeroShotTask(
        name="toy",
        dataset="toy",
        pictures=pictures,
        rule="",
        class_names=["{} ant", "bee"],
        templates=("{}", "a {} or two {}s"),
        labels=torch.zeros(0, dtype=torch.int64),
    )
    assert sentences_of(task)[0] == ["{} ant", "a {} ant or two {} ants"]
    assert sentences_of(replace(task, class_sentences=[["x"], ["y"]])) == [["x"], ["y"]]


def named(class_names: list[str], templates: list[str]) -> ZeroShotTask:
    return ZeroShotTask(
        name="toy",
        dataset="toy",
        pictures=PictureSet(fingerprint="none", num_pictures=0, read=lambda number: ""),
        rule="",
        class_names=class_names,
        templates=tuple(templates),
        labels=torch.zeros(0, dtype=torch.int64),
    )


@pytest.mark.parametrize(
    ("class_names", "templates", "told"),
    [
        (["ant"] * 1_415, ["{}"] * 1_414, r"1,415 class names in 1,414 .* 2,000,810 sentences"),
        (
            ["ant"] * 8_000,
            ["{}" + "s" * 10_000] * 2,
            r"16,000 sentences of up to 160,048,000 bytes",
        ),
        (["🐜"] * 2_000, ["{}" + "s" * 9_999] * 2, r"4,000 sentences of up to 160,000,000 bytes"),
        (["ant"] * 2_000, ["{}" + "ü" * 9_997] * 2, r"4,000 sentences of up to 160,000,000 bytes"),
        (["a" * 200], ["{}" * 101], r"a sentence of 20,200 characters, and 20,000 is the limit"),
        (["ant", "half \ud800"], ["{}"], r"class 1 is called .* no text to embed \(bad utf-8\)"),
    ],
)
def test_names_and_templates_that_cannot_be_sentences_are_refused_before_any_is_written(
    class_names, templates, told
):
    with pytest.raises(UserError, match=told):
        sentences_of(named(class_names, templates))


def test_as_many_sentences_as_imagenet_21k_has_are_few_enough():
    class_texts._refuse_large(named(["n" * 11] * 21_841, list(openai_templates())))


def test_prompts_have_the_hash_of_their_json():
    for prompts in ([], ["a"], [["ä", "b"], ["c"]]):
        expected = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
        assert feature_store.prompt_fingerprint(prompts) == expected


def test_class_vectors_are_computed_once_and_come_back_bit_for_bit(toy_encoder, cache):
    computed = class_features(toy_encoder, CLASSES, ["flat", "deep"], ONE, cache=cache)
    again = class_features(toy_encoder, CLASSES, ["deep", "flat"], ONE, cache=cache)
    assert list(again) == ["deep", "flat"]
    assert all(again[variant].equal(computed[variant]) for variant in again)
    assert (cache.num_loaded, len(toy_encoder.string_batches)) == (2, 1)
    # Of three variants only the new one is computed.
    class_features(toy_encoder, CLASSES, ["flat", "new", "deep"], ONE, cache=cache)
    assert toy_encoder.asked_variants[1:] == [("new",)]


def test_whatever_could_change_a_vector_makes_another_key(toy_encoder, cache, monkeypatch):
    def computes(encoder=toy_encoder, classes=CLASSES, **settings) -> bool:
        before = len(toy_encoder.string_batches)
        class_features(encoder, classes, ["deep"], ONE, cache=cache, **settings)
        return len(toy_encoder.string_batches) > before

    assert computes()
    assert not computes()
    for changed in (
        [["an ant", "a small ant!"], *CLASSES[1:]],
        [*CLASSES[1:], CLASSES[0]],
        [["an ant"], ["a small ant", "a bee"], *CLASSES[2:]],
    ):
        assert computes(classes=changed)
    assert computes(batch_size=2)
    monkeypatch.setattr(toy_encoder, "fingerprint", "toy-2")
    assert computes()
    monkeypatch.undo()
    for name in ("_sources", "_versions", "_processor"):
        with monkeypatch.context() as patch:
            patch.setattr(feature_store, name, lambda *_: "another")
            assert computes()
    torch.set_num_threads(2)
    try:
        assert computes()
    finally:
        torch.set_num_threads(1)
    assert not computes()


def test_a_model_with_one_weight_or_its_tokenizer_changed_finds_nothing_in_the_cache(cache):
    def cached(encoder) -> int:
        before = cache.num_loaded
        class_features(encoder.as_dual_encoder(), CLASSES, ["AAB"], ONE, cache=cache)
        return cache.num_loaded - before

    assert cached(tiny.encoder()) == 0
    assert cached(tiny.encoder()) == 1
    nudged = tiny.encoder()
    with torch.no_grad():
        nudged.model.text_tower.head.bias[0] += 1e-6
    assert cached(nudged) == 0
    other = tiny.encoder()
    other.tokenizer = SentencePieceTokenizer(
        read_model(EMOJI_TOKENIZER), canonicalize="lower", context_length=16
    )
    assert cached(other) == 0
    assert cached(tiny.encoder()) == 1


def test_all_processes_take_what_the_first_one_has(run_on_ranks, toy_encoder, tmp_path):
    classes = [[f"class {number}", f"a {number}"] for number in range(100)]
    expected = class_features(toy_encoder, classes, ["flat", "deep"], ONE)

    def run(ranks):
        # Only the first has the vectors of one variant; another has the other, which does not count.
        cache = FeatureStore(tmp_path / f"cache-{ranks.rank}")
        variant = "flat" if ranks.is_first else "deep"
        class_features(toy_encoder, classes, [variant], Ranks(), cache=cache)
        toy_encoder.asked_variants.clear()
        features = class_features(toy_encoder, classes, ["flat", "deep"], ranks, cache=cache)
        return {
            "asked": [list(asked) for asked in toy_encoder.asked_variants],
            "loaded": cache.num_loaded,
            "same": all(features[variant].equal(expected[variant]) for variant in expected),
        }

    first, second = run_on_ranks(run, 2)
    assert first == {"asked": [["deep"]] * 2, "loaded": 1, "same": True}
    assert second == {"asked": [["deep"]] * 2, "loaded": 0, "same": True}
