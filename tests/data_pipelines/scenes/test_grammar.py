"""Sentences are of usual length, of few words, and English."""

import pytest

from data_pipelines.prepare.train_tokenizer import train_model
from data_pipelines.scenes.grammar import RELATIONS, plural, sentence
from data_pipelines.scenes.meaning import Clause, Has, Lacks, Noun, Outnumbers, Relates
from data_pipelines.scenes.scene import CONVERSES
from data_pipelines.tokenizers import SentencePieceTokenizer, canonical

FORM = "lower_no_punctuation"


@pytest.fixture(scope="module")
def sentences(samples):
    """Captions of all constructions."""
    return [sample.caption for sample in samples["train"]]


def test_captions_have_8_to_40_tokens(sentences, repository):
    own = train_model(sorted({canonical(text, FORM) for text in sentences}), 800, "bpe")
    emoji = (repository / "data_pipelines/packs/emoji/tokenizer.model").read_bytes()
    for model, longest in ((own, 32), (emoji, 40)):
        tokenizer = SentencePieceTokenizer(model, canonicalize=FORM, context_length=64)
        lengths = [len(row) for row in tokenizer.encode(sentences)]
        assert min(lengths) >= 8
        assert max(lengths) <= longest


def test_all_captions_are_made_of_a_few_hundred_words(sentences):
    words = {word for text in sentences for word in canonical(text, FORM).split()}
    assert 90 < len(words) < 300


def test_most_captions_are_different(sentences):
    assert len(set(sentences)) > 0.95 * len(sentences)


@pytest.mark.parametrize(
    ("one", "several"),
    [("cat", "cats"), ("box", "boxes"), ("cherry", "cherries"), ("key", "keys"), ("tooth", "teeth"),
     ("wrist watch", "wrist watches"), ("teddy bear", "teddy bears"), ("sheep", "sheep")],
)  # fmt: skip
def test_plurals(one, several):
    assert plural(one) == several


def test_a_relation_and_its_converse_have_phrases_in_pairs():
    assert all(len(RELATIONS[one]) == len(RELATIONS[other]) for one, other in CONVERSES.items())


def test_wordings_differ_and_each_is_kept_to():
    meaning = (Relates("left", Noun("cat", "red"), Noun("owl")), Lacks(Noun("dog")))
    swapped = (Relates("left", Noun("owl"), Noun("cat", "red")), Lacks(Noun("dog")))
    texts = [sentence(meaning, wording) for wording in range(60)]
    assert len(set(texts)) > 20
    for wording, text in enumerate(texts):
        assert sentence(meaning, wording) == text
        other = sentence(swapped, wording)
        assert other != text
        assert sorted(other.replace("an owl", "a owl").split()) == sorted(
            text.replace("an owl", "a owl").split()
        )
        assert "a owl" not in text
        assert text.endswith(".")
        assert text[0].isupper()


def test_a_clause_in_a_clause_says_whom_it_is_about():
    inner = Noun("dog", None, Clause("above", Noun("car")))
    texts = {
        sentence((Has(Noun("cat", None, Clause("left", inner)), "red"),), wording)
        for wording in range(40)
    }
    assert all(text.count(" that is ") == 2 for text in texts)
    assert any("the cat that is left of the dog that is above the car is red" in t for t in texts)


def test_more_are_several():
    text = sentence((Outnumbers("fewer", Noun("cat", "red"), Noun("tooth")),), 3)
    assert "fewer red cats than teeth" in text
