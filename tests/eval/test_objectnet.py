"""ObjectNet as its archive unpacks, in miniature."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from eval.prompts import openai_templates
from eval.tasks import open_task

LABELS = {
    "alarm_clock": "Alarm clock",
    "banana": "Banana",
    "dress_shoe_men": "Dress shoe (men)",
    "band_aid": "Band Aid",
    "baking_sheet": "Baking sheet",
}
OVERLAP = {
    "Dress shoe (men)": "Loafer",
    "Alarm clock": "analog clock; digital clock",
    "Banana": "b",
}


def framed(shade: int) -> bytes:
    pixels = np.full((9, 8, 3), (255, 0, 0), dtype=np.uint8)
    pixels[2:-2, 2:-2] = shade
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "objectnet-1.0"
    (root / "mappings").mkdir(parents=True)
    (root / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(LABELS))
    (root / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps(OVERLAP))
    for number, folder in enumerate(LABELS):
        (root / "images" / folder).mkdir(parents=True)
        for copy in range(2 if folder != "banana" else 0):
            path = root / "images" / folder / f"{number}{copy}.png"
            path.write_bytes(framed(10 * number + copy))
    return root


@pytest.mark.parametrize("above", [False, True])
def test_candidates_are_the_overlapping_classes_by_objectnets_names(archive, above):
    task = open_task("zero_shot:objectnet", archive.parent if above else archive)
    assert task.class_names == ["alarm clock", "banana", "dress shoe (men)"]
    assert task.templates == openai_templates()
    assert task.labels.tolist() == [0, 0, 2, 2]
    assert task.notes == [
        f"1 of the 3 classes have no pictures in {archive}",
        "2 folders are no class of this task and were left out",
    ]


def test_the_red_border_is_not_shown(archive):
    pictures = open_task("zero_shot:objectnet", archive).pictures
    shown = [pictures.read(n) for n in range(pictures.num_pictures)]
    assert [pixels.shape for pixels in shown] == [(5, 4, 3)] * 4
    assert [np.unique(pixels).tolist() for pixels in shown] == [[0], [1], [20], [21]]


def test_a_folder_that_the_mapping_does_not_know_is_refused(archive):
    (archive / "images" / "zebra").mkdir()
    with pytest.raises(UserError, match=r"no class of this task: zebra"):
        open_task("zero_shot:objectnet", archive)


@pytest.mark.parametrize(
    "overlap", [{}, OVERLAP | {"Zebra": "zebra"}, OVERLAP | {"Band Aid": "Band-Aid"}]
)
def test_mappings_that_do_not_fit_each_other_are_refused(archive, overlap):
    labels = LABELS | {"baking_sheet": "Band Aid"}
    (archive / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    (archive / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps(overlap))
    with pytest.raises(UserError, match="do not fit"):
        open_task("zero_shot:objectnet", archive)


def test_an_archive_without_mappings_is_asked_for_them(archive, tmp_path):
    with pytest.raises(UserError, match="needs --data PATH"):
        open_task("zero_shot:objectnet", None)
    with pytest.raises(UserError, match="holds no mappings/"):
        open_task("zero_shot:objectnet", archive / "images")
    (archive / "mappings" / "objectnet_to_imagenet_1k.json").unlink()
    with pytest.raises(UserError, match=r"cannot read .*objectnet_to_imagenet_1k.json"):
        open_task("zero_shot:objectnet", archive)
