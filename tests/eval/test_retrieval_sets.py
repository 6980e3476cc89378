"""Published sets of pictures with captions, as tiny copies of their layouts."""

import json

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from eval.tasks import names_of, open_task


def draw(path, red=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (red, 0, 0)).save(path)


@pytest.fixture
def karpathy(tmp_path):
    """Four pictures of the test split, one of them listed twice, and one of the training split."""
    captions = {
        ("val2014", "a.jpg", "test"): ["A dog. ", "a cat"],
        ("val2014", "b.jpg", "test"): ["a cat", "two cats", "a cat"],
        ("train2014", "c.jpg", "train"): ["a bird"],
        ("val2014", "gone.jpg", "test"): ["nothing"],
        ("val2014", "mute.jpg", "test"): [" ", "\ud83d"],
    }
    images = [
        {
            "filepath": folder,
            "filename": name,
            "split": split,
            "sentences": [{"raw": text, "tokens": text.split()} for text in texts],
        }
        for (folder, name, split), texts in captions.items()
    ]
    again = {**images[0], "sentences": [{"raw": "a third one", "tokens": []}]}
    (tmp_path / "dataset_coco.json").write_text(
        json.dumps({"images": [*images, again], "dataset": "coco"})
    )
    for name in ("val2014/a.jpg", "val2014/b.jpg", "val2014/mute.jpg", "train2014/c.jpg"):
        draw(tmp_path / "pictures" / name)
    return tmp_path


def right_texts(task):
    """For each picture its texts."""
    found = {}
    for picture, text in task.right_pairs.tolist():
        found.setdefault(picture, set()).add(task.texts[text])
    return found


def test_karpathys_test_split_has_all_captions_and_equal_ones_once(karpathy):
    file = karpathy / "dataset_coco.json"
    task = open_task(f"retrieval:karpathy:{file}", karpathy / "pictures")
    assert task.dataset == "dataset_coco-test"
    assert task.texts == ["A dog.", "a cat", "a third one", "two cats"]
    assert right_texts(task) == {
        0: {"A dog.", "a cat", "a third one"},
        1: {"a cat", "two cats"},
    }
    assert task.missing == {2: "no such file", 3: "no caption", 4: "listed twice"}
    assert task.notes == ["captions left out: 1 x empty caption, 1 x bad utf-8"]
    assert task.pictures.read(1).shape == (3, 4, 3)
    assert task.rule.startswith("All captions of a picture are texts, equal ones one text.")


def test_karpathys_splits_and_a_limit_of_captions_are_words_of_the_name(karpathy):
    file = karpathy / "dataset_coco.json"
    first = open_task(f"retrieval:karpathy:first-1:{file}", karpathy / "pictures")
    assert first.texts == ["A dog.", "a third one", "a cat"]
    assert first.rule.startswith("The first 1 captions of a picture")
    train = open_task(f"retrieval:karpathy:train:first-5:{file}", karpathy / "pictures")
    assert train.texts == ["a bird"]
    assert train.missing == {}


def test_flickrs_file_has_no_filepath_and_is_found_below_the_data(tmp_path):
    images = [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": "a"}]}]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    draw(tmp_path / "a.jpg")
    task = open_task("retrieval:karpathy:dataset_flickr30k.json", tmp_path)
    assert right_texts(task) == {0: {"a"}}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("val:FILE", "no pictures in the split 'val'"),
        ("test:train:FILE", "names both 'test' and 'train'"),
        ("first-5:first-1:FILE", "names both 'first-5' and 'first-1'"),
        ("FOLDER/absent.json", "No such file"),
        ("FOLDER/list.json", r"is \[\], not an object"),
        ("FOLDER/other.json", "'images' is missing, not a list"),
        ("FOLDER/broken.json", "picture 0: 'sentences' is 7, not a list"),
    ],
)
def test_mistakes_in_karpathys_files_and_names_are_named(karpathy, name, complaint):
    (karpathy / "list.json").write_text("[]")
    (karpathy / "other.json").write_text('{"annotations": []}')
    item = {"filename": "a.jpg", "split": "test", "sentences": 7}
    (karpathy / "broken.json").write_text(json.dumps({"images": [item]}))
    spec = name.replace("FILE", str(karpathy / "dataset_coco.json"))
    spec = spec.replace("FOLDER", str(karpathy))
    with pytest.raises(UserError, match=complaint):
        open_task(f"retrieval:karpathy:{spec}", karpathy / "pictures")


def test_karpathys_pictures_need_a_folder(karpathy):
    with pytest.raises(UserError, match="needs --data FOLDER"):
        open_task(f"retrieval:karpathy:{karpathy}/dataset_coco.json", None)


@pytest.fixture
def xm3600(tmp_path):
    """Two pictures with captions in German, one of them in Quechua too."""
    folder = tmp_path / "xm3600"
    german = {"caption": ["ein Hund", "Hund"], "caption/tokenized": [["ein", "Hund"], ["Hund"]]}
    lines = [
        {"image/key": "k1", "image/locale": "de", "de": german, "quz": {"caption": ["allqu"]}},
        {"image/key": "k2", "image/locale": "de", "de": {"caption": ["Katze", "Hund"]}},
    ]
    folder.mkdir()
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    for key in ("k1", "k2"):
        draw(folder / "images" / f"{key}.jpg")
    return folder


def test_each_language_of_xm3600_is_a_task_over_the_same_pictures(xm3600):
    names = names_of("retrieval:xm3600:xm3600", xm3600.parent)
    assert names == ["retrieval:xm3600:de:xm3600", "retrieval:xm3600:quz:xm3600"]
    german, quechua = (open_task(name, xm3600.parent) for name in names)
    assert (german.language, quechua.language) == ("de", "quz")
    assert right_texts(german) == {0: {"ein Hund", "Hund"}, 1: {"Katze", "Hund"}}
    assert right_texts(quechua) == {0: {"allqu"}}
    assert quechua.missing == {1: "no caption"}
    # They are embedded once: what one language lacks must not be missing in another.
    assert german.pictures.fingerprint == quechua.pictures.fingerprint
    assert quechua.pictures.read(1).shape == (3, 4, 3)


def test_xm3600_may_be_limited_to_the_first_caption_as_others_do(xm3600):
    (name,) = names_of(f"retrieval:xm3600:de:first-1:{xm3600}", None)
    assert right_texts(open_task(name, None)) == {0: {"ein Hund"}, 1: {"Katze"}}
    assert names_of(f"retrieval:xm3600:first-1:{xm3600}", None) == [
        f"retrieval:xm3600:de:first-1:{xm3600}",
        f"retrieval:xm3600:quz:first-1:{xm3600}",
    ]


def test_a_language_that_is_not_there_is_answered_with_those_that_are(xm3600):
    for name in (f"retrieval:xm3600:fr:{xm3600}", f"retrieval:xm3600:{xm3600}"):
        with pytest.raises(UserError, match=r"are in de, quz; .*retrieval:xm3600:de:"):
            open_task(name, None)
    (xm3600 / "captions.jsonl").write_text('{"image/key": "k1"}')
    with pytest.raises(UserError, match="no captions in any language"):
        names_of(f"retrieval:xm3600:{xm3600}", None)
    with pytest.raises(UserError, match="No such file"):
        names_of("retrieval:xm3600:absent", None)
