"""Pictures of known classes for probes."""

from collections import Counter

import pytest
from PIL import Image
from webdataset import TarWriter

from data_pipelines.errors import UserError
from data_pipelines.expand import PACKS_FOLDER, read_table
from eval.tasks import open_task


@pytest.fixture
def folders(tmp_path):
    """Two classes to learn, of which one is tested."""
    for place in ("train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/dog/9.png"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    return tmp_path


def test_classes_are_the_folders_to_learn_from(folders):
    task = open_task(f"probe:folders:{folders}/train:{folders}/test", None)
    assert task.class_names == ["cat", "dog"]
    assert task.train_labels.tolist() == [0, 0, 1]
    assert task.labels.tolist() == [1]
    assert task.pictures.read(0).shape == (2, 2, 3)
    same = open_task("probe:folders:train:test", folders)
    assert same.train_pictures.fingerprint == task.train_pictures.fingerprint


def test_folders_that_cannot_be_probed_are_named(folders):
    with pytest.raises(UserError, match="no two folders"):
        open_task(f"probe:folders:{folders}/train", None)
    with pytest.raises(UserError, match="no folder"):
        open_task(f"probe:folders:{folders}/absent:{folders}/test", None)
    with pytest.raises(UserError, match="1 class folders"):
        open_task(f"probe:folders:{folders}/test:{folders}/train", None)
    (folders / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="bird"):
        open_task(f"probe:folders:{folders}/train:{folders}/test", None)


def test_both_splits_of_a_wds_folder_are_read(tmp_path, png):
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    for split, classes in (("train", [0, 1, None, 1]), ("test", [1])):
        (tmp_path / split).mkdir()
        with TarWriter(str(tmp_path / split / "0.tar")) as tar:
            for number, label in enumerate(classes):
                known = {} if label is None else {"cls": str(label).encode()}
                tar.write({"__key__": f"s{number}", "png": png, **known})
    task = open_task(f"probe:wds:{tmp_path}", None)
    assert task.class_names == ["cat", "dog"]
    assert task.labels.tolist() == [1]
    assert list(task.train_missing) == [2]
    assert [task.train_labels[n] for n in (0, 1, 3)] == [0, 1, 1]
    assert task.train_pictures.read(3).shape == (3, 4, 3)
    (tmp_path / "train" / "0.tar").unlink()
    with pytest.raises(UserError, match="no shards"):
        open_task(f"probe:wds:{tmp_path}", None)


def test_emoji_are_probed_for_unicodes_groups_in_one_skin_tone():
    task = open_task("probe:emoji", None)
    table = read_table(PACKS_FOLDER / "emoji")
    assert len(task.class_names) == 9
    for split, labels, missing in (
        ("train", task.train_labels, task.train_missing),
        ("test", task.labels, task.missing),
    ):
        expected = Counter()
        for _, concept_index, _ in table["samples"][split]:
            concept = table["concepts"][concept_index]
            base = table["bases"][concept["base"]]
            if base["group"] in task.class_names and concept["label"] == base["positive_key"]:
                expected[base["group"]] += 1
        kept = [task.class_names[label] for n, label in enumerate(labels) if n not in missing]
        assert Counter(kept) == expected
        assert min(expected.values()) >= 30
