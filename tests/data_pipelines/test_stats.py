import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.histograms import HEIGHT, WIDTH, histogram
from data_pipelines.measures import distribution, shares_at
from data_pipelines.stats import main

WORDS = ["red", "green blue", "cat dog sun", "Cat  dog sun"]


@pytest.fixture
def folder(tmp_path, dataset_in, sample_of):
    """Pictures of four sizes, some of them equal; captions of four kinds; one bad sample."""
    samples = [
        sample_of(number % 8, size=8 + number % 4, txt=WORDS[number % 4].encode())
        for number in range(20)
    ]
    samples = [(f"{number:02d}", parts) for number, (_, parts) in enumerate(samples)]
    dataset_in(tmp_path, [*samples, sample_of(20, txt=b"red", webp=b"nothing")])
    return tmp_path


@pytest.fixture
def stats(folder, capsys):
    """Runs the command line on the folder and reads its JSON."""

    def run(*flags):
        main([f"{folder}/*.tar", "--json", *map(str, flags)])
        return json.loads(capsys.readouterr().out)

    return run


def test_counts_sizes_and_lengths_are_those_of_the_samples(stats):
    found = stats()
    assert (found["samples"], found["measured"], found["shards"]) == (21, 20, 3)
    assert found["bad"] == {"no readable picture header": 1}
    assert found["picture_width"] == found["picture_height"]
    assert (found["picture_width"]["min"], found["picture_width"]["max"]) == (8, 11)
    assert found["picture_width"]["mean"] == 9.5
    lengths = [len(WORDS[number % 4]) for number in range(20)]
    assert found["caption_characters"]["mean"] == pytest.approx(np.mean(lengths), abs=1e-3)
    assert "caption_tokens" not in found


def test_pictures_and_captions_that_repeat_others_are_counted(stats):
    found = stats()
    assert (found["repeated_pictures"]["distinct"], found["repeated_pictures"]["repeats"]) == (
        8,
        12,
    )
    captions = found["repeated_captions"]
    assert (captions["distinct"], captions["repeats"]) == (3, 17)
    assert captions["largest"][0] == {"count": 10, "first": "0.tar:02"}


def test_truncation_and_padding_are_those_of_the_tokenizer(stats, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer")
    lengths = [len(tokenizer.encode([WORDS[number % 4]])[0]) for number in range(20)]
    assert max(lengths) < tokenizer.context_length
    context_length = sorted(lengths)[10]
    for given_as in ("tokenizer", "tokenizer/tokenizer.model"):
        found = stats("--tokenizer", tmp_path / given_as, "--context-length", context_length)
        truncated = [len_ > context_length for len_ in lengths]
        used = [min(len_, context_length) for len_ in lengths]
        assert found["caption_tokens"]["max"] == max(lengths)
        assert found["share_truncated"] == pytest.approx(np.mean(truncated))
        assert found["share_padding"] == pytest.approx(1 - sum(used) / (20 * context_length))
    assert stats("--tokenizer", tmp_path / "tokenizer")["context_length"] == 16


def test_the_page_is_whole_loads_nothing_and_escapes(folder, tokenizer, tmp_path, capsys):
    tokenizer.save(tmp_path / "tokenizer")
    strange = folder / "<b>x&.tar"
    (folder / "0.tar").rename(strange)
    flags = ["--tokenizer", f"{tmp_path}/tokenizer", "--html", f"{tmp_path}/page.html"]
    main([str(strange), *flags])
    assert "different ones" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 5
    assert "&lt;b&gt;x&amp;.tar" in page and "<b>" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"<script|src=|href=|url\(|https?:", page)
    with pytest.raises(UserError, match="exists already"):
        main([str(strange), *flags])
    main([str(strange), *flags, "--overwrite"])


def test_what_cannot_be_measured_is_one_line(tmp_path, dataset_in, sample_of, folder):
    with pytest.raises(UserError, match="--context-length 8 needs a --tokenizer"):
        main([f"{folder}/*.tar", "--context-length", "8"])
    (tmp_path / "bad").mkdir()
    dataset_in(tmp_path / "bad", [sample_of(1, webp=b"", txt=b"a")])
    with pytest.raises(UserError, match="not one of 1 samples can be measured: 1 x no readable"):
        main([f"{tmp_path}/bad/*.tar"])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200), st.integers(1, 100))
def test_shares_and_percentiles_agree_with_counting(values, context_length):
    numbers = np.array(values, dtype=np.int64)
    found = distribution(numbers)
    assert found["min"] == min(values) and found["max"] == max(values)
    assert found["p50"] == sorted(values)[(len(values) - 1) // 2]
    shares = shares_at(numbers, context_length)
    assert shares["share_truncated"] == pytest.approx(
        sum(value > context_length for value in values) / len(values)
    )
    empty = sum(max(0, context_length - value) for value in values)
    assert shares["share_padding"] == pytest.approx(
        empty / (context_length * len(values)), abs=1e-9
    )


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300), st.integers(1, 100))
def test_the_bars_of_a_histogram_hold_every_value_and_stay_in_the_drawing(values, mark):
    drawn = histogram("t", "u", np.array(values, dtype=np.int64), (mark, "here"))
    counts = [int(words.rpartition(": ")[2].replace(",", "")) for *_, words in drawn.bars]
    assert sum(counts) == len(values)
    assert 1 <= len(drawn.bars) <= 45
    for left, top, width, height, _ in drawn.bars:
        assert left >= 0 and left + width <= WIDTH
        assert top >= 0 and top + height <= HEIGHT
    assert all(0 <= place <= WIDTH for place, _ in drawn.columns)
