import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of, read_record
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig, sources_of

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
    config = CaptionConfig(kind="template", templates=("{long}",))
    assert caption_of({"long": "one"}, config, 0) == "one"
    drawn = {caption_of({"long": ["one", None, "two", " "]}, config, seed) for seed in range(20)}
    assert drawn == {"one", "two"}


def test_templates_are_drawn_by_their_weights():
    config = CaptionConfig(
        kind="template", templates=("{alt}", "{synthetic}"), template_weights=(1.0, 3.0)
    )
    record = {"alt": "a", "synthetic": "s"}
    drawn = [caption_of(record, config, seed) for seed in range(4000)]
    # Three standard deviations of the binomial law are 82.
    assert abs(drawn.count("s") - 3000) < 82
    assert drawn.count("a") == 4000 - drawn.count("s")


def test_a_template_whose_fields_are_missing_leaves_its_place_to_the_others():
    config = CaptionConfig(kind="template", templates=("{alt}", "{synthetic}", "{txt}!"))
    assert {caption_of({"txt": "t", "alt": ""}, config, seed) for seed in range(20)} == {"t!"}
    assert cause_of(caption_of, {"other": "x"}, config, 0) == "no caption"


def test_a_template_is_text_with_fields_that_say_the_same_wherever_they_stand():
    template = "{{{kind}}} {kind}, number {number} of {number}"
    config = CaptionConfig(kind="template", templates=(template,))
    record = {"kind": ["cat", "dog"], "number": 7}
    assert {caption_of(record, config, seed) for seed in range(20)} == {
        "{cat} cat, number 7 of 7",
        "{dog} dog, number 7 of 7",
    }


@pytest.mark.parametrize(
    "template", ["{a.__class__}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{0}", "{a", "a}", "no field"]
)
def test_a_template_is_no_language(template):
    with pytest.raises(UserError, match="the template"):
        caption_of({"a": "x"}, CaptionConfig(kind="template", templates=(template,)), 0)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"templates": ()}, "captions.templates is empty"),
        ({"template_weights": (1.0, 2.0)}, "2 captions.template_weights for 1 templates"),
        ({"template_weights": (0.0,)}, "must be a number above 0"),
        ({"template_weights": (float("nan"),)}, "must be a number above 0"),
    ],
)
def test_weights_and_templates_that_do_not_fit_are_refused(settings, line):
    captions = CaptionConfig(kind="template", **settings)
    with pytest.raises(UserError, match=line):
        caption_of({"caption": "x"}, captions, 0)
    with pytest.raises(UserError, match=line):
        sources_of(DataConfig(shards=("emoji:val",), captions=captions))


@pytest.mark.parametrize(
    ("record", "config", "cause"),
    [
        ({"label": "x"}, CaptionConfig(), "no caption"),
        ({"txt": "x"}, LABEL, "no caption"),
        ({"label": 3}, LABEL, "no caption"),
        ({"label": "x", "keywords": [1, 2, 3]}, KEYWORDS, "no caption"),
        ({"label": "x", "keywords": "chef"}, KEYWORDS, "bad json"),
        ({"caption": []}, CaptionConfig(kind="template"), "no caption"),
        ({"caption": [None, True, {}]}, CaptionConfig(kind="template"), "no caption"),
        ({"txt": " \n"}, CaptionConfig(), "empty caption"),
        ({"label": "", "keywords": ["chef"]}, KEYWORDS, "empty caption"),
        ({"txt": "a" * 20_001}, CaptionConfig(), "caption too long"),
        ({"label": "half a pair \ud83d"}, LABEL, "bad utf-8"),
    ],
)
def test_a_bad_caption_has_its_cause(record, config, cause):
    assert cause_of(caption_of, record, config, 0) == cause
