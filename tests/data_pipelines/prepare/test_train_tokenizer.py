import json

import pytest
import sentencepiece

from data_pipelines.errors import UserError
from data_pipelines.expand import PACKS_FOLDER
from data_pipelines.prepare.train_tokenizer import main
from data_pipelines.shard_writer import write_shard
from data_pipelines.tokenizers import SentencePieceTokenizer, read_model

WORDS = ["red apple", "green pear", "blue plum", "yellow banana", "purple grape", "brown nut"]


@pytest.fixture
def shard(tmp_path):
    samples = []
    for number in range(60):
        label = f"{WORDS[number % 6]} on {WORDS[number // 6 % 6]}!"
        record = {"label": label, "keywords": ["Fruit"], "locales": {"de": "Straße", "xx": None}}
        samples.append((f"s{number}", {"png": b"", "json": json.dumps(record).encode()}))
    samples.append(("text", {"png": b"", "txt": b"Only a text"}))
    samples.append(("broken", {"png": b"", "json": b"{"}))
    return write_shard(tmp_path / "a.tar", samples).path


def train(shard, out, *more, vocab_size=60):
    main([str(shard), "--out", str(out), "--vocab-size", str(vocab_size), *more])
    return read_model(out)


def pieces(model):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return {processor.id_to_piece(number) for number in range(processor.vocab_size())}


def test_training_twice_gives_the_same_bytes(shard, tmp_path, capsys):
    assert train(shard, tmp_path / "1.model") == train(shard, tmp_path / "2.model")
    printed = capsys.readouterr().out
    assert "captions: 38 different ones, from 61 samples" in printed
    assert "left out: 1 samples without readable captions" in printed


def test_the_model_ends_rows_with_1_and_has_neither_start_nor_padding(shard, tmp_path):
    model = train(shard, tmp_path / "a.model")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert processor.eos_id() == 1
    assert processor.bos_id() == processor.pad_id() == -1
    tokenizer = SentencePieceTokenizer(
        model, canonicalize="lower_no_punctuation", context_length=64
    )
    (row,) = tokenizer.encode(["Red APPLE, on green pear!"])
    assert processor.decode(row) == "red apple on green pear"


def test_languages_are_read_only_when_asked_for(shard, tmp_path):
    assert not any("ß" in piece for piece in pieces(train(shard, tmp_path / "a.model")))
    model = train(shard, tmp_path / "b.model", "--locales", "de", "xx", "--canonicalize", "none")
    assert any("ß" in piece for piece in pieces(model))
    assert any("F" in piece for piece in pieces(model))


def test_a_model_is_not_overwritten_unasked(shard, tmp_path):
    train(shard, tmp_path / "a.model")
    with pytest.raises(UserError, match="--overwrite"):
        train(shard, tmp_path / "a.model")
    train(shard, tmp_path / "a.model", "--overwrite")


def test_an_impossible_vocabulary_is_named(shard, tmp_path):
    with pytest.raises(UserError, match="--vocab-size"):
        train(shard, tmp_path / "a.model", vocab_size=3)
    assert not (tmp_path / "a.model").exists()


@pytest.mark.slow
def test_the_packs_tokenizer_is_the_one_that_its_train_split_gives(tmp_path):
    trained = train("emoji:train", tmp_path / "a.model", vocab_size=4000)
    assert trained == read_model(PACKS_FOLDER / "emoji" / "tokenizer.model")
