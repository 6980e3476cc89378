"""Search over an index against a sort of all scores; queries, conditions, removal, near duplicates."""

import functools

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_index import row, unit_rows, write_index

from data_pipelines.errors import UserError
from rins_mm.index import opened
from rins_mm.index.layout import write_removed
from rins_mm.index.opened import open_index, require_model
from rins_mm.index.search import near_duplicates, picture_query, search, text_query
from rins_mm.index.where import parse_condition, rows_where


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """100 pictures of 24 numbers in four shards, with gaps among the numbers; rows 5 and 50 are equal."""
    vectors = unit_rows(100, 24)
    vectors[50] = vectors[5]
    return write_index(tmp_path_factory.mktemp("index"), vectors)


def test_the_answer_is_that_of_a_sort_of_all_scores(folder, monkeypatch):
    index = open_index(folder)
    vectors = np.concatenate([np.load(p) for p in sorted(folder.glob("vectors/*.npy"))])
    vectors = vectors / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    queries = unit_rows(5, 24, seed=1)
    queries[0] = vectors[5]
    every = np.round(queries @ vectors.T, 6)
    order = np.argsort(-every, axis=1, kind="stable")[:, :7]
    for resident, at_once in ((opened.RESIDENT_BYTES, 2**23), (0, 40)):
        monkeypatch.setattr(opened, "RESIDENT_BYTES", resident)
        monkeypatch.setattr("rins_mm.index.search.SCORES_AT_ONCE", at_once)
        scores, numbers = search(index, torch.from_numpy(queries), 7)
        assert numbers.tolist() == index.numbers[order].tolist()
        assert np.allclose(scores, np.take_along_axis(every, order, 1), atol=2e-6)
    # Equal pictures stand in the order of their numbers.
    assert numbers[0, :2].tolist() == [5, 55]


def test_no_more_pictures_are_found_than_there_are(folder):
    index = open_index(folder)
    scores, numbers = search(index, torch.from_numpy(unit_rows(2, 24)), 1000)
    assert numbers.shape == scores.shape == (2, 100)
    none, _ = search(index, torch.from_numpy(unit_rows(2, 24)), 5, ["width>5000"])
    assert none.shape == (2, 0)


def test_only_pictures_that_meet_all_conditions_are_found(folder):
    index = open_index(folder)
    query = torch.from_numpy(unit_rows(1, 24, seed=2))
    _, numbers = search(index, query, 200, ["label=apple", "width>=130", "caption~PICTURE"])
    expected = [n for n in index.numbers.tolist() if n % 3 == 0 and n >= 30]
    assert sorted(numbers[0].tolist()) == expected
    _, everything = search(index, query, 200)
    wanted = [n for n in everything[0].tolist() if n in expected]
    assert numbers[0].tolist() == wanted


@functools.cache
def opened_once(folder):
    return open_index(folder)


@given(
    field=st.sampled_from(["number", "width", "label", "name"]),
    operator=st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]),
    value=st.sampled_from(["7", "-1", "150", "apple", "0.png", "a/0007.png", "", "'apple'", "99999999999"]),
)  # fmt: skip
@settings(max_examples=40)
def test_a_condition_means_what_python_means_or_is_refused(folder, field, operator, value):
    index = opened_once(folder)
    try:
        met = rows_where(index, [f" {field} {operator} {value} "])
    except UserError:
        if field in ("number", "width"):
            assert operator == "~" or not value.lstrip("-").isdigit()
        else:
            assert operator in ("<", "<=", ">", ">=")
        return
    plain = value.strip("'")
    compare = {
        "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
        "~": lambda a, b: b.lower() in a.lower(),
    }[operator]  # fmt: skip
    known = [getattr(row(number), field) for number in index.numbers.tolist()]
    other = int(plain) if field in ("number", "width") else plain
    assert met.tolist() == [compare(one, other) for one in known]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("width", "FIELD OPERATOR VALUE"),
        ("__import__('os').system('x')>1", "cannot be read"),
        ("size>3", "names 'size'; pictures have number, name, label"),
        ("width>wide", "compare it with a whole number"),
        ("label>3", "is text; compare it by"),
        ("width>" + "9" * 40, "whole number"),
    ],
)
def test_a_condition_that_cannot_be_read_is_told(text, words):
    with pytest.raises(UserError, match=words):
        parse_condition(text)


def test_what_is_removed_is_not_found_and_has_no_row(tmp_path):
    write_index(tmp_path, unit_rows(40, 8))
    write_removed(tmp_path, [3, 0, 3])
    index = open_index(tmp_path)
    assert index.num_pictures == 38
    _, numbers = search(index, torch.from_numpy(unit_rows(1, 8)), 100)
    assert sorted(numbers[0].tolist()) == [n for n in index.numbers.tolist() if n not in (0, 3)]
    for number in (3, 9, -1, 44, 10**12):
        with pytest.raises(UserError, match=f"no picture {number} "):
            index.row(number)


def test_a_query_of_another_width_or_model_is_refused(folder):
    index = open_index(folder)
    with pytest.raises(UserError, match=r"has 8 numbers and the vectors .* have 24"):
        search(index, torch.from_numpy(unit_rows(1, 8)), 5)
    with pytest.raises(UserError, match="was built with the model made up") as caught:
        require_model(index, tiny.encoder().as_dual_encoder())
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not finite"):
        search(index, torch.full((1, 24), torch.nan), 5)


def test_words_are_asked_at_the_depth_that_is_named_and_minus_leads_away():
    encoder = tiny.encoder()
    dual = encoder.as_dual_encoder()
    plain = text_query(dual, "a red apple")
    assert torch.equal(plain, text_query(dual, "a red apple", signature="A^3B"))
    shallow = text_query(dual, "a red apple", signature="AB")
    assert torch.allclose(shallow, encoder.encode_texts(["a red apple"], "AB"), atol=1e-6)
    assert not torch.allclose(plain, shallow, atol=1e-3)
    leaf, tree = encoder.encode_texts(["a leaf", "a tree"])
    away = text_query(dual, "a red apple", ["a leaf", "a tree"], minus_weight=0.7)
    by_hand = plain[0] - 0.7 * (leaf + tree) / 2
    assert torch.allclose(away[0], by_hand / by_hand.norm(), atol=1e-5)
    assert float(away[0] @ (leaf + tree)) < float(plain[0] @ (leaf + tree))
    with pytest.raises(UserError, match="nothing is left of 'red'"):
        text_query(dual, "red", ["red"], minus_weight=1.0)
    with pytest.raises(UserError, match="a query is empty"):
        text_query(dual, "red", [" "])


def test_a_picture_asks_with_its_own_vector(tmp_path):
    encoder = tiny.encoder()
    query = picture_query(encoder.as_dual_encoder(), tiny.pixels(3))
    assert torch.allclose(query, encoder.encode_images([tiny.pixels(3)]), atol=1e-6)
    (tmp_path / "x.png").write_bytes(b"?")
    with pytest.raises(UserError, match="cannot read the picture"):
        picture_query(encoder.as_dual_encoder(), tmp_path / "x.png")


@given(seed=st.integers(0, 50), threshold=st.sampled_from([0.3, 0.6, 0.9]), tile=st.integers(1, 40))
@settings(max_examples=8)
def test_groups_of_duplicates_are_those_of_a_walk_from_picture_to_picture(
    tmp_path_factory, seed, threshold, tile
):
    vectors = unit_rows(30, 3, seed).astype(np.float16)
    folder = write_index(tmp_path_factory.mktemp("alike"), vectors)
    write_removed(folder, [4])
    index = open_index(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rins_mm.index.duplicates.ROWS_AT_ONCE", tile)
        patched.setattr("rins_mm.index.duplicates.COLUMNS_AT_ONCE", tile + 3)
        found = near_duplicates(index, threshold)
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T >= threshold
    kept = [r for r, n in enumerate(index.numbers) if n != 4]
    groups, seen = [], set()
    for start in kept:
        group, todo = set(), [start]
        while todo:
            at = todo.pop()
            if at not in group:
                group.add(at)
                todo += [r for r in kept if alike[at, r]]
        if len(group) > 1 and start not in seen:
            groups.append(sorted(index.numbers[list(group)].tolist()))
        seen |= group
    assert sorted(found.groups) == sorted(groups)
    assert found.num_pairs == sum(alike[a, b] for a in kept for b in kept if a < b)
    assert [len(g) for g in found.groups] == sorted(map(len, found.groups), reverse=True)


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(folder, threshold):
    with pytest.raises(UserError, match="give a cosine"):
        near_duplicates(open_index(folder), threshold)
