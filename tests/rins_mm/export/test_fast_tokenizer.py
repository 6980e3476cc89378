"""A sentencepiece tokenizer as tokenizer.json: the same ids, and no text is ever taken for a token's name."""

import functools
import io
import json

import pytest
import sentencepiece
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import ClipTokenizer, SentencePieceTokenizer
from rins_mm.export.fast_tokenizer import fast_tokenizer, write_fast_tokenizer
from rins_mm.export.golden import NUM_STRINGS, golden_strings

STRINGS = golden_strings()
FORMS = ["none", "lower", "lower_no_punctuation"]
KINDS = {
    "unigram": {},
    "bpe": {"model_type": "bpe", "vocab_size": 900},
    "bytes": {"byte_fallback": True, "vocab_size": 700, "normalization_rule_name": "identity"},
    "own symbols": {"user_defined_symbols": ["apple"]},
    "no prefix": {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
}


@functools.cache
def trained(kind: str) -> bytes:
    """A small model of the golden strings themselves."""
    model = io.BytesIO()
    words = {"vocab_size": 900, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1}
    numbers = {"unk_id": 0, "eos_id": 1, "bos_id": -1, "pad_id": -1}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter([s for s in STRINGS if s.isprintable() and s]),
        model_writer=model, **{**words, **numbers, **KINDS[kind]},
    )  # fmt: skip
    return model.getvalue()


def ids(tokenizer: SentencePieceTokenizer, strings: list[str]) -> list[list[int]]:
    fast = fast_tokenizer(tokenizer)
    fast.enable_truncation(tokenizer.context_length)
    return [encoding.ids for encoding in fast.encode_batch(strings)]


def test_there_are_a_thousand_different_golden_strings():
    assert len(set(STRINGS)) == NUM_STRINGS == len(STRINGS)
    assert "" in STRINGS and max(map(len, STRINGS)) > 1000


@pytest.mark.parametrize("form", FORMS)
def test_the_demos_tokenizer_gives_a_thousand_strings_the_same_ids(form):
    model = tiny.tokenizer().model
    tokenizer = SentencePieceTokenizer(model, canonicalize=form, context_length=16)
    assert ids(tokenizer, STRINGS) == tokenizer.encode(STRINGS)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"own symbols"}))
def test_other_kinds_of_models_do_too(kind):
    for form in FORMS:
        tokenizer = SentencePieceTokenizer(trained(kind), canonicalize=form, context_length=64)
        expected = tokenizer.encode(STRINGS)
        found = ids(tokenizer, STRINGS)
        assert [s for s, a, b in zip(STRINGS, expected, found, strict=True) if a != b] == []


# Letters and signs of all scripts; not the combining ones, of which there is one exception.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Co", "Cn", "Mn", "Mc", "Me"]), max_size=40)


@given(st.lists(TEXTS, min_size=1, max_size=20))
@settings(max_examples=30)
def test_any_string_has_the_same_ids(texts):
    for form in FORMS:
        tokenizer = _remembered(form)
        assert ids_remembered(form, texts) == tokenizer.encode(texts)


@functools.cache
def _remembered(form: str) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(tiny.tokenizer().model, canonicalize=form, context_length=64)


@functools.cache
def _fast(form: str):
    fast = fast_tokenizer(_remembered(form))
    fast.enable_truncation(64)
    return fast


def ids_remembered(form: str, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in _fast(form).encode_batch(texts)]


@pytest.mark.parametrize(
    "string",
    [
        "\ufef5\u064e",
        "\u2f09\u065c",
        "\xb2\u0301",
        "\xb4\u0367a",
        "\u0140\u07a6",
        "e\u0301",
        "\r\n",
    ],
)
def test_an_accent_over_a_symbol_that_is_replaced_is_kept(string):
    tokenizer = SentencePieceTokenizer(trained("unigram"), canonicalize="lower", context_length=64)
    assert ids(tokenizer, [string, f"a{string}b"]) == tokenizer.encode([string, f"a{string}b"])


@pytest.mark.parametrize("string", ["</s>", "< /s >", "<unk> dog", "\uff1c\uff0fs\uff1e", "a</s>b"])
def test_the_name_of_a_token_in_a_caption_is_text(string):
    tokenizer = SentencePieceTokenizer(
        tiny.tokenizer().model, canonicalize="none", context_length=16
    )
    (row,) = ids(tokenizer, [string])
    assert row == tokenizer.encode([string])[0] and row.count(tokenizer.end_token) == 1


def test_a_sigma_that_ends_a_word_has_its_own_small_form():
    strings = ["ΟΔΟΣ", "ΣΟΣ ΑΣ.", "Σ", "1Σ", "ΣΑΣΑ", "\u0391.Σ", "ΣΑΣ\u0301"]
    tokenizer = SentencePieceTokenizer(trained("bytes"), canonicalize="lower", context_length=64)
    assert ids(tokenizer, strings) == tokenizer.encode(strings)
    assert ids(tokenizer, ["ΟΔΟΣ"]) != ids(tokenizer, ["οδοσ"])


def test_the_folder_says_how_rows_are_padded(tmp_path):
    for pad_left, side in ((True, "left"), (False, "right")):
        write_fast_tokenizer(tiny.tokenizer(), tmp_path, pad_left=pad_left)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert (config["padding_side"], config["padding"]) == (side, "max_length")
        assert config["max_length"] == config["model_max_length"] == 16
        assert ("attention_mask" in config["model_input_names"]) is pad_left


def test_what_a_tokenizer_json_cannot_say_is_refused(tmp_path):
    model = tiny.tokenizer().model
    sorting = SentencePieceTokenizer(model, canonicalize="bag_of_words", context_length=16)
    with pytest.raises(UserError, match=r"sorts the words.*native"):
        write_fast_tokenizer(sorting, tmp_path, pad_left=True)
    with pytest.raises(UserError, match=r"ClipTokenizer.*native"):
        write_fast_tokenizer(ClipTokenizer(context_length=16), tmp_path, pad_left=True)
    own = SentencePieceTokenizer(trained("own symbols"), canonicalize="none", context_length=16)
    with pytest.raises(UserError, match=r"'apple'.*native"):
        write_fast_tokenizer(own, tmp_path, pad_left=True)
