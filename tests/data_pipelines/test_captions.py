import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of, read_record

LABEL = CaptionConfig(kind="label")
KEYWORDS = CaptionConfig(kind="label_keywords", num_keywords=3)
COOK = {"label": "cook", "keywords": ["chef", "food", "kitchen", "hat"]}

seeds = st.integers(-(2**63), 2**63 - 1)


def cause_of(action, *arguments):
    with pytest.raises(BadSample) as caught:
        action(*arguments)
    return caught.value.cause


def test_a_record_is_the_json_with_the_text_beside_it():
    parts = {"json": b'{"label": "\xc3\xa9"}', "txt": "größe\n".encode(), "webp": b""}
    assert read_record(parts) == {"label": "é", "txt": "größe\n"}
    assert read_record({"txt": b"a"}) == {"txt": "a"}


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ({}, "no caption"),
        ({"webp": b""}, "no caption"),
        ({"txt": b"\xff"}, "bad utf-8"),
        ({"txt": "half a pair \ud800".encode("utf-8", "surrogatepass")}, "bad utf-8"),
        ({"json": b'{"a": "\xc3"}'}, "bad utf-8"),
        ({"json": b""}, "bad json"),
        ({"json": b'{"a": 1'}, "bad json"),
        ({"json": b"[1]"}, "bad json"),
        ({"json": b'"text"'}, "bad json"),
        ({"json": b'{"a": NaN}'}, "bad json"),
        ({"json": b'{"a": -Infinity}'}, "bad json"),
        ({"json": b'{"a": ' + b"9" * 5000 + b"}"}, "bad json"),
        ({"json": b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}"}, "bad json"),
        ({"json": b"[" * 500_000}, "bad json"),
        ({"json": b'{"a":' * 100_000 + b"1" + b"}" * 100_000}, "bad json"),
    ],
)
def test_a_bad_record_has_its_cause(parts, cause):
    assert cause_of(read_record, parts) == cause


def test_many_brackets_side_by_side_are_no_depth():
    record = {"list": [[1], [2]] * 100, "text": "{[( " * 10}
    assert read_record({"json": json.dumps(record).encode()}) == record


@given(st.binary(max_size=200))
def test_any_bytes_give_a_record_or_a_cause(data):
    for kind in ("json", "txt"):
        # Any other error would fail the test.
        with suppress(BadSample):
            assert isinstance(read_record({kind: data}), dict)


@given(seeds)
def test_text_and_label_stay_the_same_in_every_epoch(seed):
    record = {**COOK, "txt": " A cook. \n"}
    assert caption_of(record, CaptionConfig(), seed) == "A cook."
    assert caption_of(record, LABEL, seed) == "cook"


@given(seeds, st.integers(0, 6))
def test_keywords_are_some_of_the_sample_each_once_behind_the_label(seed, most):
    caption = caption_of(COOK, CaptionConfig(kind="label_keywords", num_keywords=most), seed)
    label, *keywords = caption.split(", ")
    assert label == "cook"
    assert len(set(keywords)) == len(keywords) <= min(most, 4)
    assert set(keywords) <= set(COOK["keywords"])


def test_every_number_and_every_order_of_keywords_comes():
    captions = {caption_of(COOK, KEYWORDS, seed) for seed in range(2000)}
    assert len(captions) == 1 + 4 + 4 * 3 + 4 * 3 * 2
    numbers = [caption_of(COOK, KEYWORDS, seed).count(", ") for seed in range(2000)]
    assert all(400 < numbers.count(number) < 600 for number in range(4))


def test_captions_are_the_same_in_every_year():
    assert [caption_of(COOK, KEYWORDS, seed) for seed in (0, 5, -5)] == [
        "cook, hat, food, chef",
        "cook, kitchen, hat",
        "cook",
    ]


def test_a_field_may_be_a_text_or_a_list_of_which_one_is_drawn():
    config = CaptionConfig(kind="json_field", field="long")
    assert caption_of({"long": "one"}, config, 0) == "one"
    drawn = {caption_of({"long": ["one", "two"]}, config, seed) for seed in range(20)}
    assert drawn == {"one", "two"}


@pytest.mark.parametrize(
    ("record", "config", "cause"),
    [
        ({"label": "x"}, CaptionConfig(), "no caption"),
        ({"txt": "x"}, LABEL, "no caption"),
        ({"label": 3}, LABEL, "no caption"),
        ({"label": "x", "keywords": [1, 2, 3]}, KEYWORDS, "no caption"),
        ({"label": "x", "keywords": "chef"}, KEYWORDS, "bad json"),
        ({"caption": []}, CaptionConfig(kind="json_field"), "no caption"),
        ({"caption": [None]}, CaptionConfig(kind="json_field"), "no caption"),
        ({"txt": " \n"}, CaptionConfig(), "empty caption"),
        ({"label": "", "keywords": ["chef"]}, KEYWORDS, "empty caption"),
        ({"txt": "a" * 20_001}, CaptionConfig(), "caption too long"),
        ({"label": "half a pair \ud83d"}, LABEL, "bad utf-8"),
    ],
)
def test_a_bad_caption_has_its_cause(record, config, cause):
    assert cause_of(caption_of, record, config, 0) == cause
