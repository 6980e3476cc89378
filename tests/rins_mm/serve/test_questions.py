"""Requests are understood or refused in one line."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from rins_mm.serve.questions import Question, read_question, read_threshold


def test_a_whole_question_is_read() -> None:
    asked = {
        "words": " a cat ", "minus": "a dog", "depth": "AAB", "where": ["width>=512"], "top_k": 3,
    }  # fmt: skip
    assert read_question(json.dumps(asked).encode()) == Question(
        words="a cat", minus="a dog", depth="AAB", where=("width>=512",), top_k=3
    )
    assert read_question(b"{}") == Question()
    assert (
        read_question(json.dumps({"picture": b64encode(b"abc").decode()}).encode()).picture
        == b"abc"
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"), (b"\xff\xfe", "not JSON"), (b"[" * 100_000, "not JSON"), (b"[1]", "not a JSON object"),
        (b'{"path": "/etc/passwd"}', "the request names 'path'"), (b'{"words": 3}', "words is not text"),
        (b'{"words": null}', "words is not text"), (json.dumps({"words": "a" * 1001}).encode(), "1,001 characters"),
        (b'{"words": "a", "number": 1}', "given together"), (b'{"minus": "a"}', "nothing to take words away from"),
        (b'{"number": -1}', "number is not a whole number"), (b'{"number": 1.5}', "number is not a whole number"),
        (b'{"number": true}', "number is not a whole number"), (b'{"number": 1e999}', "number is not a whole number"),
        (b'{"top_k": 0}', "top_k is 0"), (b'{"top_k": 501}', "top_k is not a whole number"),
        (b'{"top_k": ' + b"9" * 5000 + b"}", "not JSON"), (b'{"picture": "~"}', "not base64"),
        (b'{"picture": 5}', "picture is not text"), (b'{"where": "label=a"}', "where is not a list"),
        (json.dumps({"where": ["a"] * 9}).encode(), "where is not a list"),
        (b'{"where": [5]}', "a condition is not text"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(body: bytes, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        read_question(body)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "body", [b"{}", b'{"threshold": "1"}', b'{"threshold": NaN}', b'{"threshold": 0.5}']
)
def test_a_threshold_is_a_cosine_near_one(body: bytes) -> None:
    assert read_threshold(b'{"threshold": 0.95}') == 0.95
    with pytest.raises(UserError, match=r"threshold is not a number from 0\.9 to 1"):
        read_threshold(body)


def test_halves_of_surrogate_pairs_become_question_marks() -> None:
    assert read_question(b'{"words": "a\\ud800b"}').words == "a?b"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_clear_line(body: bytes) -> None:
    refusal = ""
    try:
        read_question(body)
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal
