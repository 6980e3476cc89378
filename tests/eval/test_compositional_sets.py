"""Published sets of foils, as tiny copies of their layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from eval.task_kinds import Choice, Pairing
from eval.tasks import open_task


@pytest.fixture
def pictures(tmp_path):
    """The folder of two pictures whose green is the column of the pixel."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.zeros((6, 8, 3), dtype=np.uint8)
    pixels[:, :, 1] = np.arange(8)
    for name in ("1.jpg", "2.jpg"):
        Image.fromarray(pixels).save(folder / name, "PNG")
    return folder


def spelled(task):
    """The questions with their texts instead of numbers."""

    def texts(numbers):
        return [task.texts[number] for number in numbers]

    return [
        (q.picture, texts(q.right), texts(q.wrong), q.kind)
        if isinstance(q, Choice)
        else (q.pictures, texts(q.texts), q.kind)
        for q in task.questions
    ]


def aro_item(picture, true, false, x=2, **more):
    box = {"bbox_x": x, "bbox_y": 0, "bbox_w": 3, "bbox_h": 4}
    return {
        "image_path": picture, "true_caption": true, "false_caption": false, **box, **more
    }  # fmt: skip


def test_aro_shows_the_box_and_takes_relations_or_attributes_as_kinds(tmp_path, pictures):
    relations = [
        aro_item("1.jpg", "a dog on a mat", "a mat on a dog", relation_name="on"),
        aro_item("1.jpg", "a cat in a hat", "a hat in a cat", relation_name="in"),
        aro_item("1.jpg", "a cat in a hat", "a hat in a cat", x=4, relation_name="in"),
        aro_item("absent.jpg", "a", "b", relation_name="in"),
        aro_item("2.jpg", "next to", "next to ", relation_name="next to"),
    ]
    (tmp_path / "visual_genome_relation.json").write_text(json.dumps(relations))
    task = open_task(f"compositional:aro:{tmp_path}/visual_genome_relation.json", pictures)
    assert task.dataset == "visual_genome_relation"
    assert spelled(task) == [
        (0, ["a dog on a mat"], ["a mat on a dog"], "on"),
        (0, ["a cat in a hat"], ["a hat in a cat"], "in"),
        (1, ["a cat in a hat"], ["a hat in a cat"], "in"),
        (2, ["a"], ["b"], "in"),
    ]
    assert task.missing == {2: "no such file"}
    assert task.notes == ["questions left out: 1 x a foil equals the caption"]
    for number, left in enumerate((2, 4)):
        shown = task.pictures.read(number)
        assert shown.shape == (4, 3, 3)
        assert shown[0, :, 1].tolist() == [left, left + 1, left + 2]

    attributes = [aro_item("1.jpg", "red a, blue b", "blue a, red b", attributes=["red", "blue"])]
    (tmp_path / "attribution.json").write_text(json.dumps(attributes))
    task = open_task(f"compositional:aro:{tmp_path}/attribution.json", pictures)
    assert [question.kind for question in task.questions] == ["red_blue"]


def crepe_item(caption, foil, picture="1.jpg"):
    return {"filename": picture, "caption": caption, "negative_caption": foil}


def test_the_kinds_of_sugarcrepe_are_its_files(tmp_path, pictures):
    folder = tmp_path / "data"
    folder.mkdir()
    kinds = [
        "add_att",
        "add_obj",
        "replace_att",
        "replace_obj",
        "replace_rel",
        "swap_att",
        "swap_obj",
    ]
    for kind in kinds:
        items = {"0": crepe_item("a dog", f"{kind} 0"), "7": crepe_item("a cat", "", "2.jpg")}
        (folder / f"{kind}.json").write_text(json.dumps(items))
    task = open_task(f"compositional:sugarcrepe:{folder}", pictures)
    assert spelled(task) == [(0, ["a dog"], [f"{kind} 0"], kind) for kind in kinds]
    assert task.dataset == "sugarcrepe"
    assert task.notes == ["questions left out: 7 x empty caption"]
    alone = open_task("compositional:sugarcrepe:../data/swap_att.json", pictures)
    assert alone.dataset == "sugarcrepe-swap_att"
    assert spelled(alone) == [(0, ["a dog"], ["swap_att 0"], "swap_att")]
    (folder / "swap_obj.json").unlink()
    with pytest.raises(UserError, match=r"swap_obj\.json \(No such file"):
        open_task(f"compositional:sugarcrepe:{folder}", pictures)


def test_winoground_has_two_pictures_and_two_captions_each(tmp_path):
    def line(number, tag):
        names = {f"image_{side}": f"ex_{number}_img_{side}" for side in (0, 1)}
        captions = {
            "caption_0": "some plants around a bulb",
            "caption_1": "some bulbs around a plant",
        }
        return json.dumps({"id": number, **names, **captions, "tag": "x", "collapsed_tag": tag})

    (tmp_path / "examples.jsonl").write_text(line(0, "Object") + "\n" + line(1, "Relation"))
    (tmp_path / "images").mkdir()
    for name in ("ex_0_img_0", "ex_0_img_1", "ex_1_img_0"):
        Image.new("RGBA", (3, 2)).save(tmp_path / "images" / f"{name}.png")
    task = open_task(f"compositional:winoground:{tmp_path}", None)
    assert task.questions == [
        Pairing(pictures=(0, 1), texts=(0, 1), kind="Object"),
        Pairing(pictures=(2, 3), texts=(0, 1), kind="Relation"),
    ]
    assert task.missing == {3: "no such file"}
    assert task.pictures.read(2).shape == (2, 3, 3)


def test_shards_of_our_own_ask_one_question_per_picture_and_kind(tmp_path, png):
    def sample(key, record):
        return key, {"png": png, "json": json.dumps(record).encode()}

    def foils(*pairs):
        return [{"kind": kind, "text": text} for kind, text in pairs]

    swaps = foils(("swap", "blue a"), ("count", "two a"), ("swap", "green a"), ("swap", "blue a"))
    samples = [
        sample("a", {"caption": "red a", "foils": swaps}),
        sample("b", {"caption": "red b", "foils": []}),
        sample("c", {"foils": swaps}),
        sample("d", {"caption": "red a", "foils": [{"kind": "swap"}]}),
        sample("e", {"caption": "blue a", "foils": swaps}),
        sample("f", {"caption": "red a", "foils": "blue a"}),
    ]
    write_shard(tmp_path / "scenes.tar", samples)
    task = open_task(f"compositional:{tmp_path}/scenes.tar", None)
    assert spelled(task) == [
        (0, ["red a"], ["blue a", "green a"], "swap"),
        (0, ["red a"], ["two a"], "count"),
        (4, ["blue a"], ["two a"], "count"),
    ]
    assert task.missing == {1: "no foils", 2: "no caption", 3: "bad foils", 5: "bad foils"}
    assert task.notes == ["questions left out: 1 x a foil equals the caption"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("aro", "{}", r"is \{\}, not a list"),
        ("aro", '[{"image_path": 3}]', "item 0: 'bbox_x' is missing, not an integer"),
        ("aro", json.dumps([aro_item("1.jpg", "a", "b")]), "item 0: 'attributes' is missing"),
        ("sugarcrepe", "[]", r"is \[\], not an object"),
        ("sugarcrepe", '{"3": {"filename": "1.jpg"}}', "item \"3\": 'caption' is missing"),
    ],
)
def test_files_of_another_layout_are_named(tmp_path, pictures, name, content, complaint):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(UserError, match=complaint):
        open_task(f"compositional:{name}:{tmp_path}/file.json", pictures)
    with pytest.raises(UserError, match="needs --data FOLDER"):
        open_task(f"compositional:{name}:{tmp_path}/file.json", None)


def test_the_splits_of_scenes_have_names(tmp_path, png):
    (tmp_path / "test").mkdir()
    record = {"caption": "red a", "foils": [{"kind": "swap", "text": "blue a"}]}
    parts = {"png": png, "json": json.dumps(record).encode()}
    write_shard(tmp_path / "test" / "x.tar", [("a", parts)])
    task = open_task("compositional:scenes", tmp_path)
    assert spelled(task) == [(0, ["red a"], ["blue a"], "swap")]
    assert task.dataset == "scenes-test"
    assert open_task("compositional:scenes:test", tmp_path).dataset == "scenes-test"
    with pytest.raises(UserError, match="compositional:scenes needs --data FOLDER"):
        open_task("compositional:scenes", None)
    with pytest.raises(UserError, match="nothing"):
        open_task("compositional:scenes:nothing", tmp_path)
