"""Small copies of the pictures of mistakes: few, small, anew, and never a reason to fail."""

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval import mistakes
from eval.encoder import Picture
from eval.mistakes import NUM_SHOWN, SIDE, detailed_result, mistake_thumbnails, small_copy
from eval.picture_sets import PictureSet
from eval.report import results_page
from eval.task_kinds import ZeroShotTask

FAILURES = {
    1: BadSample("truncated picture"),
    2: UserError("the shard x.tar has changed"),
    3: FileNotFoundError(2, "No such file or directory"),
}


@pytest.fixture
def reads():
    return []


@pytest.fixture
def task(reads):
    """A hundred noisy pictures of which the numbers 1 to 3 cannot be read."""

    def read(number: int) -> Picture:
        reads.append(number)
        if number in FAILURES:
            raise FAILURES[number]
        return np.random.default_rng(number).integers(0, 256, (300, 200, 3), dtype=np.uint8)

    return ZeroShotTask(
        name="zero_shot:x",
        dataset="x",
        pictures=PictureSet(fingerprint="d1", num_pictures=100, read=read),
        rule="",
        class_names=["a"],
        labels=torch.zeros(100, dtype=torch.int64),
    )


def result(numbers, acc1=0.5, **changes):
    return {
        "name": "zero_shot:x",
        "variant": "AB",
        "metrics": {"acc1": acc1},
        "mistakes": [
            {"picture": number, "right": "a", "given": f"b{number}", "margin": 0.5}
            for number in numbers
        ],
    } | changes


def opened(address):
    header, _, data = address.partition(",")
    assert header == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data)))


def test_a_picture_becomes_a_small_webp_with_its_shape_and_colour(task):
    found = mistake_thumbnails([task], [result([7])])
    image = opened(found["zero_shot:x", 7].address)
    assert (image.format, image.size) == ("WEBP", (85, SIDE))
    assert not image.getexif()
    colour = opened(small_copy(np.full((400, 400, 3), (200, 30, 60), dtype=np.uint8)))
    assert np.abs(np.asarray(colour).astype(int) - (200, 30, 60)).max() < 8


def test_what_cannot_be_read_has_a_cause_and_a_box_on_the_page(task):
    results = [result([1, 2, 3, 4])]
    found = mistake_thumbnails([task], results)
    assert [found["zero_shot:x", number].cause for number in (1, 2, 3, 4)] == [
        "truncated picture",
        "the shard x.tar has changed",
        "[Errno 2] No such file or directory",
        "",
    ]
    whole = {
        "model": "m", "chance": {}, "skipped": {}, "notes": [], "rule": "", "num_pictures": 100,
        "data_fingerprint": "d1",
    }  # fmt: skip
    page = results_page([whole | row for row in results], {}, found)
    assert page.count('src="data:image/webp;base64,') == page.count("<img") == 1
    assert "picture 1: truncated picture" in page


def test_only_what_is_shown_is_read_and_each_picture_once(task, reads):
    best = result([*range(10, 40)], acc1=0.9)
    best["mistakes"][0]["given_picture"] = 50
    best["mistakes"][1]["given_picture"] = 10
    found = mistake_thumbnails([task], [result([60]), best, result([70], acc1=0.2)])
    expected = [10, 50, *range(11, 10 + NUM_SHOWN)]
    assert reads == expected
    assert [number for _, number in found] == expected
    assert mistake_thumbnails([], [best]) == {}


def test_a_page_has_an_end(task, monkeypatch):
    one = len(mistake_thumbnails([task], [result([10])])["zero_shot:x", 10].address)
    monkeypatch.setattr(mistakes, "MAX_BYTES", 2 * one)
    found = list(mistake_thumbnails([task], [result(range(10, 22))]).values())
    assert sum(len(thumbnail.address) for thumbnail in found) < 3.5 * one
    assert found[-1].cause == "the page is full"
    # Noise is the worst that can be asked of WebP.
    assert one < 20_000


def test_of_mistakes_with_the_same_words_the_worst_is_shown(task, reads):
    row = result(range(10, 40))
    for mistake in row["mistakes"][:20]:
        mistake["given"] = "b"
    mistake_thumbnails([task], [row])
    assert reads == [10, *range(30, 40)]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (64, 64)])
def test_pictures_of_any_shape_have_a_small_copy(size):
    image = opened(small_copy(np.zeros((*size, 3), dtype=np.uint8)))
    assert 1 <= min(image.size) <= max(image.size) <= SIDE


def test_pictures_come_as_files_and_as_images_too(tmp_path):
    drawn = Image.new("RGBA", (30, 20), (255, 0, 0, 0))
    drawn.save(tmp_path / "x.png")
    for picture in (drawn, tmp_path / "x.png", str(tmp_path / "x.png")):
        image = opened(small_copy(picture))
        assert image.size == (30, 20)
        assert np.asarray(image).min() > 245
    (tmp_path / "y.png").write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(UserError, match="not a picture"):
        small_copy(tmp_path / "y.png")


def test_details_are_of_the_best_result_that_has_some_and_of_equal_ones_the_last():
    rows = [result([1], acc1=0.5, variant=str(place)) for place in range(3)]
    assert detailed_result(rows)["variant"] == "2"
    rows[0]["metrics"]["acc1"] = 0.6
    assert detailed_result(rows)["variant"] == "0"
    rows[0]["mistakes"] = []
    assert detailed_result(rows)["variant"] == "2"
    assert detailed_result([{"metrics": {"odd": 1.0}, "variant": "x"}])["variant"] == "x"
