import io
import json
import os
import pickle
import random
import string
import subprocess
import sys

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.expand import PACKS_FOLDER
from data_pipelines.tokenizers import (
    ClipTokenizer,
    SentencePieceTokenizer,
    canonical,
    load_tokenizer,
    read_model,
)

MODEL = read_model(PACKS_FOLDER / "emoji" / "tokenizer.model")
TEXTS = ["Grinning Face: big eyes!", "a  cat_on a\tmat", "", "日本", "naïve café", "x" * 500]


def emoji_tokenizer(**settings):
    defaults = {"canonicalize": "lower_no_punctuation", "context_length": 16}
    return SentencePieceTokenizer(MODEL, **{**defaults, **settings})


@pytest.fixture(scope="module")
def clip():
    return ClipTokenizer()


@pytest.mark.parametrize("canonicalize", ["none", "lower", "lower_no_punctuation"])
def test_ids_are_those_of_sentencepiece_on_the_canonical_text(canonicalize):
    by_hand = sentencepiece.SentencePieceProcessor(model_proto=MODEL)
    tokenizer = emoji_tokenizer(canonicalize=canonicalize)
    for text, row in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        if canonicalize != "none":
            text = text.lower()
        if canonicalize == "lower_no_punctuation":
            kept = [" " if c == "_" else c for c in text if c == "_" or c not in string.punctuation]
            text = " ".join("".join(kept).split())
        assert row == [*by_hand.encode(text)[:15], by_hand.eos_id()]


def test_siglips_canonical_form_is_the_one_that_open_clip_gives():
    from data_pipelines import torchvision_cpu  # noqa: F401, I001
    from open_clip.tokenizer import canonicalize_text

    for text in [*TEXTS, "It's 3rd-place, isn't_it?  YES", "Ünïcode — dash\u2019s"]:
        assert canonical(text, "lower_no_punctuation") == canonicalize_text(text)


@given(st.lists(st.text(st.characters(codec=None)), max_size=3), st.integers(1, 20))
def test_any_string_becomes_a_short_row_that_ends_with_the_end_token(texts, context_length):
    tokenizer = emoji_tokenizer(context_length=context_length)
    rows = tokenizer.encode(texts)
    assert len(rows) == len(texts)
    for row in rows:
        assert 1 <= len(row) <= context_length
        assert row[-1] == tokenizer.end_token
        assert all(0 <= token < tokenizer.vocab_size for token in row)


@given(st.text(st.characters(codec=None), max_size=300))
def test_clip_rows_start_and_end_as_they_must_whatever_the_string(clip, text):
    (row,) = clip.encode([text])
    assert row[0] == clip.start_token
    assert row[-1] == clip.end_token
    assert 2 <= len(row) <= clip.context_length


def test_clip_ids_are_open_clips_without_padding(clip):
    from data_pipelines import torchvision_cpu  # noqa: F401, I001
    import open_clip

    texts = [text for text in TEXTS if text] + ["a photo of a dog", "word " * 200]
    theirs = open_clip.get_tokenizer("ViT-B-32")(texts)
    for row, padded in zip(clip.encode(texts), theirs.tolist(), strict=True):
        assert row == padded[: len(row)]
        assert not any(padded[len(row) :])


def test_saving_and_loading_keeps_ids_and_fingerprint(tmp_path, clip):
    for name, tokenizer in {"ours": emoji_tokenizer(pad_token=5), "clip": clip}.items():
        tokenizer.save(tmp_path / name)
        loaded = load_tokenizer(tmp_path / name)
        assert loaded.encode(TEXTS) == tokenizer.encode(TEXTS)
        assert loaded.fingerprint == tokenizer.fingerprint
        assert loaded.pad_token == tokenizer.pad_token
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "tokenizer.json",
            "tokenizer.model",
        ]


def test_a_tokenizer_travels_to_other_processes():
    tokenizer = emoji_tokenizer()
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS) == tokenizer.encode(TEXTS)


def test_every_setting_changes_the_fingerprint():
    tokenizers = [
        emoji_tokenizer(),
        emoji_tokenizer(canonicalize="lower"),
        emoji_tokenizer(context_length=17),
        emoji_tokenizer(pad_token=0),
    ]
    assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4
    assert emoji_tokenizer().fingerprint == tokenizers[0].fingerprint


def test_padding_is_the_models_own_token_or_else_its_end_token():
    assert emoji_tokenizer().pad_token == emoji_tokenizer().end_token == 1
    assert emoji_tokenizer(pad_token=0).pad_token == 0
    with_pad = SentencePieceTokenizer(
        trained(pad_id=0, eos_id=1, unk_id=2), canonicalize="none", context_length=8
    )
    assert (with_pad.pad_token, with_pad.end_token) == (0, 1)


def trained(**settings):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["red apple", "green pear", "blue plum"] * 20),
        model_writer=model,
        vocab_size=30,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        bos_id=-1,
        **settings,
    )
    return model.getvalue()


def test_a_model_without_an_end_token_is_refused():
    with pytest.raises(UserError, match="no end token"):
        SentencePieceTokenizer(trained(unk_id=0, eos_id=-1), canonicalize="none", context_length=8)


@pytest.mark.parametrize(
    "content", [b"", b"just some words\n" * 50, bytes(1000), random.Random(0).randbytes(5000)]
)
def test_what_is_no_model_ends_in_one_line(content):
    with pytest.raises(UserError) as error:
        SentencePieceTokenizer(content, canonicalize="none", context_length=8)
    assert "\n" not in str(error.value)


def test_damaged_models_never_take_the_process_down():
    program = """
import random
import sys
from pathlib import Path
from data_pipelines.errors import UserError
from data_pipelines.tokenizers import SentencePieceTokenizer
good = Path(sys.argv[1]).read_bytes()
draws = random.Random(0)
for _ in range(60):
    damaged = bytearray(good)
    for _ in range(draws.randint(1, 30)):
        damaged[draws.randrange(len(good))] = draws.randrange(256)
    try:
        SentencePieceTokenizer(bytes(damaged[: draws.randint(1, len(good) * 2)]),
            canonicalize="none", context_length=8).encode(["a red apple"])
    except UserError:
        pass
print("alive")
"""
    finished = subprocess.run(
        [sys.executable, "-c", program, str(PACKS_FOLDER / "emoji" / "tokenizer.model")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert finished.stdout == "alive\n", finished.stderr


def test_one_string_instead_of_a_list_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="not one string"):
        emoji_tokenizer().encode("a cat")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"format_version": True}, "format version True"),
        ({"kind": "bytes"}, "unknown kind 'bytes'"),
        ({"settings": {"canonicalize": "lower"}}, "unknown or missing settings"),
        ({"settings": {"canonicalize": "lower", "context_length": 0}}, "at least 1"),
        ({"settings": {"canonicalize": "lower", "context_length": 8, "x": 1}}, "unknown"),
        ({"settings": {"canonicalize": "lower", "context_length": 8, "pad_token": 0.5}}, "0.5"),
        (
            {"settings": {"canonicalize": "lower", "context_length": 8, "pad_token": True}},
            "is True",
        ),
        ({"settings": None}, "unknown or missing settings"),
        ({"kind": "clip", "settings": {}}, "not CLIP's vocabulary"),
    ],
)
def test_a_saved_tokenizer_that_was_tampered_with_is_refused(tmp_path, change, words):
    emoji_tokenizer().save(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**described, **change}))
    with pytest.raises(UserError, match=words):
        load_tokenizer(tmp_path)


def test_folders_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("not json")
    with pytest.raises(UserError, match="is not JSON"):
        load_tokenizer(tmp_path)
    emoji_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(UserError, match="there is no tokenizer model"):
        load_tokenizer(tmp_path)


def test_a_bag_of_words_is_the_same_in_any_order():
    texts = ("The cat is left of the dog.", "the dog is left of the cat")
    assert len({canonical(text, "bag_of_words") for text in texts}) == 1
    assert canonical("The cat_is LEFT!", "bag_of_words") == "cat is left the"
