"""Answers of the page's API are those of the index, each with its cost and within its deadline."""

import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Site, serving

from eval.encoder import DualEncoder
from rins_mm.index.accelerate import Accelerator
from rins_mm.index.search import Index, search, text_query
from rins_mm.serve.questions import Question
from rins_mm.serve.service import Busy, SearchService
from rins_mm.serve.thumbnails import THUMBNAIL_SIDE


@pytest.mark.parametrize("depth", ["AB", "AAB", "AAAB"])
def test_words_find_what_the_index_finds_at_that_depth(
    site: Site, index: Index, encoder: DualEncoder, depth: str
) -> None:
    asked = {"words": "a red apple", "minus": "a leaf", "depth": depth, "top_k": 7}
    answer = site.post("/api/search", asked).json
    scores, numbers = search(
        index, text_query(encoder, "a red apple", ["a leaf"], signature=depth), 7
    )
    assert [row["number"] for row in answer["results"]] == numbers[0].tolist()
    assert [row["score"] for row in answer["results"]] == pytest.approx(scores[0].tolist())
    assert answer["depth"] == depth and answer["encode_ms"] > 0 and answer["search_ms"] > 0
    assert set(answer["depths_ms"]) == {"AB", "AAB", "AAAB"}


def test_a_picture_of_the_index_finds_others_and_not_itself(site: Site, index: Index) -> None:
    for number in (0, 3):
        answer = site.post("/api/search", {"number": number, "top_k": 100}).json
        found = [row["number"] for row in answer["results"]]
        assert sorted([*found, number]) == index.numbers.tolist()
        assert answer["encode_ms"] is None and answer["depth"] is None


def test_a_picture_that_is_sent_finds_its_own_copy_first(site: Site, index: Index) -> None:
    buffer = BytesIO()
    Image.fromarray(index.picture(5)).save(buffer, "PNG")
    answer = site.post("/api/search", {"picture": b64encode(buffer.getvalue()).decode()}).json
    best = answer["results"][0]
    assert best["number"] == 5 and best["score"] == pytest.approx(1.0, abs=1e-3)
    assert answer["encode_ms"] > 0 and answer["depth"] is None


def test_conditions_narrow_every_kind_of_search(site: Site, index: Index) -> None:
    where = ["height>=100", 'label~"PLAIN"']
    expected = {
        number for number in index.numbers.tolist()
        if index.row(number)["height"] >= 100 and "plain" in index.row(number)["label"]
    }  # fmt: skip
    for asked in ({"words": "a cat"}, {"number": 2}, {}):
        answer = site.post("/api/search", {**asked, "where": where, "top_k": 100}).json
        assert {row["number"] for row in answer["results"]} == expected - {asked.get("number")}
    assert (
        site.post("/api/search", {"words": "a", "where": ["label=nowhere"]}).json["results"] == []
    )
    refusal = site.post("/api/search", {"words": "a", "where": ["import os"]})
    assert refusal.status == 400 and "cannot be read" in refusal.json["error"]


def test_without_a_question_pictures_come_from_all_over_the_index(site: Site, index: Index) -> None:
    answer = site.post("/api/search", {"top_k": 4}).json
    numbers = [row["number"] for row in answer["results"]]
    assert numbers == sorted(numbers) and numbers[0] == 0 and numbers[-1] == index.numbers[-1]
    assert all(row["score"] is None for row in answer["results"])


def test_an_accelerator_finds_the_same_and_conditions_stay_exact(
    index: Index, encoder: DualEncoder
) -> None:
    asked = []

    def all_rows(queries, count):
        asked.append(count)
        return np.broadcast_to(np.arange(index.num_rows), (len(queries), index.num_rows))

    fast = SearchService(
        index, encoder, depths=["AB"], usual_depth="AB", deadline_seconds=5.0,
        accelerator=Accelerator(kind="usearch", find=all_rows, recall=1.0, effort=8),
    )  # fmt: skip
    exact = SearchService(index, encoder, depths=["AB"], usual_depth="AB", deadline_seconds=5.0)
    for question in (Question(words="a cat", top_k=5), Question(number=3, top_k=5)):
        assert fast.search(question)["results"] == exact.search(question)["results"]
    assert len(asked) == 2
    fast.search(Question(words="a cat", where=("height>=100",)))
    assert len(asked) == 2


def test_near_duplicates_are_grouped(site: Site, index: Index) -> None:
    twins = [n for n in index.numbers.tolist() if index.row(n)["label"] == "plain 17"]
    groups = site.post("/api/duplicates", {"threshold": 0.999}).json["groups"]
    assert twins in [[row["number"] for row in group] for group in groups]


def test_pictures_are_small_and_encoded_anew_and_may_be_kept(site: Site, index: Index) -> None:
    answer = site.get("/pictures/20")
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(BytesIO(answer.body)) as image:
        assert image.format == "WEBP" and max(image.size) <= THUMBNAIL_SIDE
    tag = answer.headers["etag"]
    assert (
        "max-age" in answer.headers["cache-control"]
        and "private" in answer.headers["cache-control"]
    )
    again = site.get("/pictures/20", if_none_match=tag)
    assert again.status == 304 and again.body == b""
    identity = site.get("/api/about").json["identity"]
    assert site.get(f"/pictures/20?of={identity}").status == 200
    assert site.get("/pictures/20?of=another").status == 410


def test_a_picture_that_has_changed_is_not_shown(
    service: SearchService, index: Index, tmp_path: Path
) -> None:
    path = Path(index.facts.sources[0].pictures) / "plain-09.png"
    number = next(n for n in index.numbers.tolist() if index.row(n)["name"] == path.name)
    kept = path.read_bytes()
    path.write_bytes((path.parent / "plain-08.png").read_bytes())
    try:
        with serving(service) as fresh:
            answer = fresh.get(f"/pictures/{number}")
        assert answer.status == 404 and answer.json == {"error": "changed since it was indexed"}
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"number": 10_000}, "there is no picture 10000"), ({"words": "a", "depth": "ABC"}, "no depth 'ABC' here"),
        ({"words": "a", "minus": "a"}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_ends_in_one_line(
    site: Site, asked: dict, complaint: str | None
) -> None:
    answer = site.post("/api/search", asked)
    if complaint is None:
        assert answer.status == 200
    else:
        assert answer.status == 400 and complaint in answer.json["error"]


def test_without_its_model_an_index_still_compares_its_own_pictures(index: Index) -> None:
    alone = SearchService(index, None, depths=(), usual_depth="default", deadline_seconds=5.0)
    alone.warm_up()
    with serving(alone) as site:
        assert site.get("/api/about").json["depths"] == []
        assert len(site.post("/api/search", {"number": 3}).json["results"]) == 23
        for asked in ({"words": "a cat"}, {"picture": b64encode(b"x").decode()}):
            answer = site.post("/api/search", asked)
            assert answer.status == 400 and "start with --model" in answer.json["error"]


class SlowEncoder:
    """Takes as long as a test likes."""

    name, fingerprint = "slow", "slow"

    def __init__(self) -> None:
        self.released = threading.Event()
        self.num_asked = 0

    def encode_texts(self, strings, variants):
        self.num_asked += 1
        self.released.wait(20)
        raise RuntimeError("secret words of the model")

    encode_images = encode_texts


def test_past_the_deadline_the_visitor_is_told_and_those_who_wait_give_up(
    index: Index, caplog
) -> None:
    slow = SlowEncoder()
    service = SearchService(index, slow, depths=["AB"], usual_depth="AB", deadline_seconds=0.3)
    with serving(service, deadline_seconds=0.3) as site:
        with ThreadPoolExecutor(3) as threads:
            answers = list(
                threads.map(lambda _: site.post("/api/search", {"words": "a"}), range(3))
            )
        assert {answer.status for answer in answers} == {503}
        assert "deadline" in answers[0].json["error"]
        # Pictures of the index need no model.
        assert len(service.search(Question(number=1))["results"]) == 23
        with pytest.raises(Busy):
            service.search(Question(words="a"))
        assert slow.num_asked == 1
        slow.released.set()


def test_an_error_of_ours_tells_the_terminal_and_not_the_visitor(index: Index, caplog) -> None:
    failing = SlowEncoder()
    failing.released.set()
    service = SearchService(index, failing, depths=["AB"], usual_depth="AB", deadline_seconds=5.0)
    with serving(service) as site:
        answer = site.post("/api/search", {"words": "a"})
    assert answer.status == 500
    assert b"secret" not in answer.body and "terminal" in answer.json["error"]
    assert "secret words of the model" in caplog.text
