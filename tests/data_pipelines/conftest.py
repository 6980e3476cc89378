import io
import json

import pytest
import sentencepiece
from PIL import Image

from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig
from data_pipelines.manifest import open_dataset
from data_pipelines.shard_writer import write_shard
from data_pipelines.tokenizers import SentencePieceTokenizer

WORDS = ["red", "green", "blue", "cat", "dog", "sun"]


@pytest.fixture(scope="session")
def tokenizer():
    """A sentencepiece tokenizer of six words."""
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 50),
        model_writer=stream,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return SentencePieceTokenizer(
        stream.getvalue(), canonicalize="lower_no_punctuation", context_length=16
    )


def webp(number, size=8):
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (number, 255 - number, 7)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


@pytest.fixture(scope="session")
def sample_of():
    """Key and parts of sample number n: its colour is (n, 255 - n, 7), its label one of three words."""

    def make(number, *, size=8, **changes):
        record = {"label": WORDS[number % 3], "keywords": WORDS, "positive_key": f"p{number // 2}"}
        parts = {"webp": webp(number, size), "json": json.dumps(record).encode()}
        return f"{number:03d}", {**parts, **changes}

    return make


@pytest.fixture(scope="session")
def dataset_in():
    """Writes samples to shards of seven in a folder and opens them."""

    def make(folder, samples):
        for number, start in enumerate(range(0, len(samples), 7)):
            write_shard(folder / f"{number}.tar", samples[start : start + 7])
        return open_dataset([f"{folder}/*.tar"])

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, dataset_in, sample_of):
    """25 whole samples in four shards."""
    return dataset_in(tmp_path_factory.mktemp("shards"), [sample_of(n) for n in range(25)])


@pytest.fixture(scope="session")
def config():
    """Captions that change by epoch, all kinds of positives, and blocks smaller than the data set."""
    return DataConfig(
        captions=CaptionConfig(kind="label_keywords", num_keywords=3),
        positives=("caption", "positive_key"),
        block_size=10,
    )
