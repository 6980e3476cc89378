"""What is written: JSON that a machine reads, a table, and a page that runs nothing."""

import copy
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import jaxtyping
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from data_pipelines.errors import UserError
from data_pipelines.words import printable
from eval.metric_words import figure, title
from eval.mistakes import NUM_SHOWN, Thumbnail
from eval.report import (
    page_templates,
    page_values,
    read_results,
    results_page,
    results_tables,
    write_page,
    write_results,
)
from eval.suite import run_suite
from eval.words import short

HOSTILE = "[red]<script>alert(1)</script>\u202e]]><img src=x onerror=alert(2)>\x1b[31m{{ 7 * 7 }}"
ENDLESS = HOSTILE + "<b>" * 10_000
OF_VERSION_2 = ("image_variant", "intervals", "near_ties", "per_class", "confusions", "mistakes")
RETRIEVAL = [
    f"{side}_retrieval_{figure}"
    for side in ("image", "text")
    for figure in ("recall@1", "recall@5", "recall@10", "median_rank", "map")
]


def result(variant="AB", image_variant="default", **changes):
    """What run_suite returns of one task at one pair of variants."""
    share = 0.2 + 0.01 * len(variant) + 0.1 * (image_variant == "AAB")
    metrics = changes.pop("metrics", {"acc1": share, "acc5": 2 * share})
    return {
        "dataset": "emoji-style",
        "model": "toy",
        "task": "zeroshot_classification",
        "language": "en",
        "name": "zero_shot:emoji-style",
        "variant": variant,
        "image_variant": image_variant,
        "metrics": metrics,
        "chance": {name: value / 10 for name, value in metrics.items()},
        "intervals": {name: (0.9 * value, 1.1 * value) for name, value in metrics.items()},
        "near_ties": dict.fromkeys(metrics, 0),
        "per_class": [],
        "confusions": [],
        "mistakes": [],
        "num_pictures": 2843,
        "num_classes": 1563,
        "skipped": {"not a picture": 4},
        "rule": "Ties are misses.",
        "notes": ["12 classes have no pictures"],
        "data_fingerprint": "d1",
        "encoder_fingerprint": "e1",
    } | changes


@pytest.fixture
def results():
    return [result(variant) for variant in ("AB", "AAB", "AAAB")]


class Elements(HTMLParser):
    """The tags and attributes of a page, as a browser sees them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes


def body_of(page):
    return ElementTree.fromstring(page[page.index("<main>") : page.index("</main>")] + "</main>")


def words_of(page):
    return "\n".join(body_of(page).itertext())


def printed(results, width=100):
    console = Console(width=width, record=True)
    console.print(results_tables(results))
    return console.export_text()


def test_results_are_written_with_version_and_provenance_and_read_again(tmp_path, results):
    path = tmp_path / "new folder" / "eval.json"
    write_results(path, results, {"command": "evaluate"})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["format_version"], document["provenance"]) == (2, {"command": "evaluate"})
    assert document["results"] == json.loads(json.dumps(results))
    assert read_results(path) == (document["results"], {"command": "evaluate"})
    assert [entry.name for entry in path.parent.iterdir()] == ["eval.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not what evaluate writes"),
        ("[]", "is not what evaluate writes"),
        ("[" * 100_000, "is not what evaluate writes"),
        ('{"format_version": 3, "results": [], "provenance": {}}', "format_version 3; .* 1 to 2"),
        ('{"format_version": 1, "results": [{"name": "x"}], "provenance": {}}', "has no variant"),
        ('{"format_version": 1, "results": 7, "provenance": {}}', "is not what evaluate writes"),
    ],
)
def test_a_file_that_holds_no_results_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_results(tmp_path / "eval.json")


def test_a_metric_that_is_not_a_number_is_refused(tmp_path, results):
    results[0]["metrics"]["acc1"] = float("nan")
    document = {"format_version": 2, "results": results, "provenance": {}}
    (tmp_path / "eval.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="NaN is no number"):
        read_results(tmp_path / "eval.json")


WRONG = (None, True, 5, -1, 1e300, "x", [], {}, [5], {"a": 5})
NOTHING = object()


def places_in(value, path=()):
    """Where each value of a document lies, at every depth."""
    yield path
    members = value.items() if isinstance(value, dict) else ()
    for name, item in enumerate(value) if isinstance(value, list) else members:
        yield from places_in(item, (*path, name))


def replaced(document, path, value):
    """A copy with another value in one place, or without it."""
    if not path:
        return None if value is NOTHING else value
    changed = copy.deepcopy(document)
    inside = changed
    for name in path[:-1]:
        inside = inside[name]
    if value is NOTHING:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return changed


def whole_document():
    """An eval.json in which everything stands that may stand there, of two depths."""
    whole = result(
        intervals={"acc1": [0.2, 0.3], "acc5": None},
        num_texts=7,
        num_questions=8,
        per_class=[{"class": "cat", "pictures": 3, "acc1": 0.5, "acc5": 1.0},
                   {"class": "dog", "pictures": 2, "acc1": 0.5}],
        confusions=[{"right": "cat", "given": "dog", "count": 2}],
        mistakes=[{"picture": 1, "given_picture": 2, "right": "cat", "given": "dog", "margin": 0.1}],
    )  # fmt: skip
    return {
        "format_version": 2,
        "provenance": {"command": "evaluate", "versions": {"torch": "2"}},
        "results": [whole, result("AAB")],
    }


def test_whatever_stands_in_place_of_a_field_gives_a_page_or_one_line(tmp_path, monkeypatch):
    # Users' processes do not look whether a 5 is a float.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    document, path = whole_document(), tmp_path / "eval.json"
    changes = [(place, value) for place in places_in(document) for value in (*WRONG, NOTHING)]
    page, num_refused = page_templates().get_template("page.html.jinja"), 0
    for place, value in random.Random(0).sample(changes, 200):
        path.write_text(json.dumps(replaced(document, place, value)))
        try:
            results, provenance = read_results(path)
        except UserError:
            num_refused += 1
            continue
        assert "</html>" in page.render(page_values(results, provenance)), (place, value)
        assert printed(results) or not results, (place, value)
    assert 100 < num_refused < 200


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("format_version",), True, "format_version is missing or of another kind"),
        (("provenance",), [["command", 1]], "provenance is missing or of another kind"),
        (("results", 1), 5, r"results\.1 is missing or of another kind"),
        (("results", 0, "model"), [], "result 0 has no model that"),
        (("results", 0, "num_pictures"), "x", "result 0 has no num_pictures that"),
        (("results", 1, "intervals"), None, "result 1 has no intervals that"),
        (("results", 0, "intervals", "acc1"), [0.1], r"no intervals\.acc1 that"),
        (("results", 0, "per_class", 1), {}, r"no per_class\.1\.class that"),
        (("results", 0, "mistakes", 0, "margin"), "x", r"no mistakes\.0\.margin that"),
        (("results", 0, "metrics", "acc1"), 1e9, r"no metrics\.acc1 that"),
        (("results", 0, "chance"), {"acc1": None}, r"no chance\.acc1 that"),
    ],
)
def test_a_field_that_cannot_be_shown_is_named_with_its_place(tmp_path, place, value, words):
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(replaced(whole_document(), place, value)))
    with pytest.raises(UserError, match=words):
        read_results(path)


@pytest.mark.parametrize("write", [write_results, write_page])
def test_an_existing_file_is_kept_unless_replacing_it_is_asked_for(tmp_path, results, write):
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(UserError, match="--overwrite"):
        write(path, results, {})
    assert path.read_text() == "precious"
    write(path, results, {}, overwrite=True)
    assert path.read_text() != "precious"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, results):
    path = tmp_path / "eval.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        write_results(path, results, {"loss": float("nan")}, overwrite=True)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.glob("eval*")] == [
        ("eval.json", "old")
    ]


def test_the_table_shows_variants_chance_near_ties_and_what_was_left_out(results):
    results[1]["near_ties"]["acc5"] = 3
    text = printed(results)
    assert "zero_shot:emoji-style · 2,843 pictures, 1,563 classes" in text
    assert "4 left out: not a picture" in text
    assert "12 classes have no pictures" in text
    assert "moved by 1e-5: 3 in top-5" in text
    assert re.search(r"^ AAAB +24\.0 +48\.0 *$", text, flags=re.MULTILINE)
    assert re.search(r"^ chance +2\.2 +4\.4 *$", text, flags=re.MULTILINE)


def test_figures_stand_under_each_other_and_a_hundred_columns_are_enough():
    metrics = {name: 0.123 if "rank" not in name else 1234.5 for name in RETRIEVAL}
    rows = [
        result(text, image, name=f"retrieval:{'x' * 150}", metrics=metrics, num_texts=10**6)
        for text in ("AB", "A" * 60, "AAAAAB")
        for image in ("default", "B" * 60)
    ]
    lines = printed(rows, width=200).splitlines()
    remarks = next(number for number, line in enumerate(lines) if line.startswith("shares"))
    table = [line.rstrip() for line in lines[1:remarks]]
    assert max(map(len, table)) <= 100
    figures = [line for line in table if "image →" in line or "text →" in line]
    ends = [[found.end() for found in re.finditer(r"[\d.,]+", line)][-7:] for line in figures]
    assert len(ends) == len(RETRIEVAL)
    assert all(row == ends[0] for row in ends)


def test_more_pairs_of_depths_than_fit_are_continued_below():
    metrics = dict.fromkeys(RETRIEVAL, 0.5)
    rows = [result(f"A{number}B", metrics=metrics) for number in range(8)]
    text = printed(rows, width=80)
    assert re.search(r"A0B +A1B +A2B +A3B +A4B +A5B +chance", text)
    assert re.search(r"A6B +A7B +chance", text)
    assert max(map(len, map(str.rstrip, text.splitlines()))) <= 80


def test_many_pairs_with_few_metrics_are_rows():
    rows = [result("A" * number + "B", image) for number in range(1, 8) for image in ("AB", "AAB")]
    text = printed(rows, width=80)
    assert len(re.findall(r"^ A+B +AA?B +\d\d\.0 +\d\d\.0 *$", text, flags=re.MULTILINE)) == 14


def test_kinds_of_questions_are_rows_and_the_ones_beyond_a_dozen_are_counted():
    kinds = {f"accuracy:kind {number:02}": 0.5 for number in range(20)}
    rows = [
        result(variant, name="compositional:x", metrics={**kinds, "accuracy": 0.75})
        for variant in ("AB", "AAB")
    ]
    text = printed(rows)
    assert re.search(
        r"^ right choice +75\.0 +75\.0 +7\.5 *\n +kind 00 +50\.0 +50\.0 +5\.0 *$", text, re.M
    )
    assert "kind 11" in text
    assert "kind 12" not in text
    assert "compositional:x: 8 more kinds" in text
    assert "kind 19" in words_of(results_page(rows, {}))


def test_the_table_obeys_no_markup_and_no_terminal_codes(results):
    rows = [{**row, "name": HOSTILE, "variant": HOSTILE, "notes": [HOSTILE]} for row in results]
    text = printed(rows)
    assert "[red]" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_page_shows_numbers_with_their_intervals_and_chance(results):
    page = results_page(results, {"versions": {"torch": "2"}})
    rows = [["".join(cell.itertext()) for cell in row] for row in body_of(page).iter("tr")]
    assert rows[0] == ["", "AB", "AAB", "AAAB", "chance"]
    assert rows[1] == [
        "top-1", "22.0 [19.8, 24.2]", "23.0 [20.7, 25.3]", "24.0 [21.6, 26.4]", "2.2",
    ]  # fmt: skip
    words = words_of(page)
    assert "95 % intervals" in words
    assert not re.findall(r"(?:src|href)\s*=|url\(", page)
    assert "scores moved" not in words
    for text in ("4 left out: not a picture", "12 classes have no pictures", '{"torch": "2"}'):
        assert text in words


def test_results_of_the_first_version_are_still_shown(tmp_path, results):
    old = [{key: row[key] for key in row if key not in OF_VERSION_2} for row in results]
    document = {"format_version": 1, "results": old, "provenance": {"command": "x"}}
    (tmp_path / "eval.json").write_text(json.dumps(document))
    page = results_page(*read_results(tmp_path / "eval.json"))
    rows = [["".join(cell.itertext()) for cell in row] for row in body_of(page).iter("tr")]
    assert rows[1] == ["top-1", "22.0", "23.0", "24.0", "2.2"]
    assert "intervals" not in words_of(page)
    assert "22.0" in printed(old)


def test_what_a_suite_measures_is_described_printed_and_shown(toy_encoder, shard, repository):
    measured = run_suite(toy_encoder, [f"retrieval:{shard}"], ["AB", "AAB"])
    described = (repository / "docs" / "evaluation.md").read_text().partition("## What is written")
    fields = re.findall(r"^\| (`.*?) \| ", described[2], flags=re.MULTILINE)
    assert set(measured[0]) <= set(re.findall(r"`(\w+)`", " ".join(fields)))
    for text in (words_of(results_page(measured, {})), printed(measured)):
        for metric, value in measured[1]["metrics"].items():
            assert title(metric) in text
            assert figure(metric, value) in text


def test_several_tasks_have_an_overview_in_front(results):
    other = [result(variant, name="zero_shot:other", language="de") for variant in ("AB", "B")]
    page = results_page([*results, *other], {})
    rows = [["".join(cell.itertext()) for cell in row] for row in body_of(page).iter("tr")]
    assert rows[1] == ["zero_shot:emoji-style", "top-1", "22.0", "23.0", "24.0", "", "2.2"]
    assert rows[2] == ["zero_shot:other", "top-1", "22.0", "", "", "21.0", "2.2"]
    assert "language de" in words_of(page)
    page = results_page([*results, result("AB", "AAB", name="zero_shot:other")], {})
    rows = [["".join(cell.itertext()) for cell in row] for row in body_of(page).iter("tr")]
    assert rows[0] == [
        "task",
        "metric",
        "ABdefault",
        "AABdefault",
        "AAABdefault",
        "ABAAB",
        "chance",
    ]
    assert rows[2][2:] == ["", "", "", "32.0", "3.2"]
    assert "images at AAB" in words_of(page)
    assert "Overview" not in words_of(results_page(results, {}))


def test_the_worst_and_the_best_classes_are_shown_and_where_it_goes_wrong(results):
    results[2]["per_class"] = [
        {"class": f"class {number:03}", "pictures": 9, "acc1": number / 100, "acc5": 1.0}
        for number in range(100)
    ]
    results[2]["confusions"] = [{"right": "a cat", "given": "a dog", "count": 1234}]
    results[2]["mistakes"] = [
        {"picture": number, "right": "apple", "given": f"pear {number}", "margin": 0.25}
        for number in range(24)
    ]
    words = words_of(results_page(results, {}))
    shown = re.findall(r"^class (\d+)$", words, flags=re.MULTILINE)
    assert list(map(int, shown)) == [*range(10), *range(99, 89, -1)]
    assert "a cat\na dog\n1,234" in words
    assert "at AAAB" in words
    assert words.count("given, by 0.250") == NUM_SHOWN
    assert "picture 3: not read for this page" in words


def test_a_page_of_hostile_results_runs_nothing_loads_nothing_and_stays_small(results):
    for row in results:
        metrics = {"acc1": 0.5, f"accuracy:{ENDLESS}": 0.5, ENDLESS: 7.0}
        row |= dict.fromkeys(("name", "model", "rule", "data_fingerprint", "language"), ENDLESS)
        row |= {"variant": ENDLESS + row["variant"], "image_variant": ENDLESS, "metrics": metrics}
        row |= {"skipped": {ENDLESS: 3}, "notes": [ENDLESS], "near_ties": {ENDLESS: 2}}
        row["per_class"] = [{"class": ENDLESS, "pictures": 1, "acc1": 0.0, "acc5": 0.0}] * 500
        row["confusions"] = [{"right": ENDLESS, "given": ENDLESS, "count": 1}] * 500
        row["mistakes"] = [
            {"picture": 1, "given_picture": 2, "right": ENDLESS, "given": ENDLESS, "margin": 0.5}
        ] * 500
        row["intervals"] = row["chance"] = {}
    thumbnails = {
        (ENDLESS, 1): Thumbnail(address="data:image/webp;base64,AAAA"),
        (ENDLESS, 2): Thumbnail(cause=HOSTILE),
    }
    page = results_page(results, {ENDLESS: ENDLESS, "more": [ENDLESS]}, thumbnails)
    assert len(page) < 200_000
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "{{ 7 * 7 }}" in page
    found = Elements(page)
    assert not found.tags & {"script", "b", "iframe", "link", "a", "base", "form", "object"}
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not {name for name, _ in found.attributes} & {"href", "srcset", "style", "action"}
    assert {value for name, value in found.attributes if name == "src"} == {
        "data:image/webp;base64,AAAA"
    }
    assert not re.search(r"url\(|@import", page)
    assert not re.search("[\u202a-\u202e\x00-\x09\x0b-\x1f]", page)
    assert printable(page.replace("\n", "")) == page.replace("\n", "")


@given(st.text(), st.integers(1, 50))
def test_short_words_are_one_line_that_fits_and_whole_where_they_can_be(text, limit):
    line = short(text, limit)
    assert len(line) <= limit
    assert printable(line) == line
    whole = printable(" ".join(text.split()))
    assert line == whole if len(text) <= limit else line.rstrip("…") in whole
