"""Names to tasks: the literal ones, a user's own shards, and what is refused."""

from pathlib import Path

import pytest

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.expand import PACKS_FOLDER, read_table
from data_pipelines.shard_writer import write_shard
from eval.imagenet import SETS
from eval.tasks import SPECS, TASKS, open_task


@pytest.fixture(scope="module")
def _pack_cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINS_MM_CACHE", str(folder))
        yield


@pytest.mark.usefixtures("_pack_cache")
@pytest.mark.parametrize("name", ["retrieval:emoji-test", "retrieval:emoji-val"])
def test_each_emoji_text_has_pictures_and_each_picture_texts_of_its_label(name):
    task = open_task(name, None)
    assert task.dataset == name.removeprefix("retrieval:")
    assert len(set(task.texts)) == len(task.texts) > 100
    assert set(task.right_pairs[:, 0].tolist()) == set(range(task.pictures.num_pictures))
    assert set(task.right_pairs[:, 1].tolist()) == set(range(len(task.texts)))
    assert not any("skin tone" in text for text in task.texts)
    assert task.missing == {}


@pytest.mark.usefixtures("_pack_cache")
def test_the_classes_of_the_emoji_style_are_its_distinct_names():
    task = open_task("zero_shot:emoji-style", None)
    # From the pack's own table, without the shards that the task reads.
    table = read_table(PACKS_FOLDER / "emoji")
    bases = [table["concepts"][concept]["base"] for _, concept, _ in table["samples"]["style"]]
    assert task.class_names == sorted({table["bases"][base]["positive_key"] for base in bases})
    assert len(task.class_names) > 1400
    assert len(task.labels) == task.pictures.num_pictures
    assert set(task.labels.tolist()) == set(range(len(task.class_names)))
    assert task.pictures.read(0).shape[2] == 3


def test_own_shards_give_each_line_of_the_txt_as_a_text_and_distinct_texts_once(shard):
    task = open_task(f"retrieval:{shard}", None)
    assert task.texts[:3] == ["caption 0", "another one", "caption 1"]
    assert len(task.texts) == 51
    assert task.right_pairs[:5].tolist() == [[0, 0], [0, 1], [1, 0], [2, 0], [3, 2]]
    assert task.missing == {100: "empty caption"}


def test_a_sample_with_json_only_lacks_a_text_and_says_so(tmp_path):
    path = tmp_path / "a.tar"
    parts = {"png": b"x", "json": b'{"label": "cat"}'}
    write_shard(path, [("a", parts), ("b", {"png": b"x", "txt": b"dog"})])
    task = open_task(f"retrieval:{path}", None)
    assert task.missing == {0: "no txt"}
    assert task.texts == ["dog"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("retrieval:emoji-tset", "retrieval:emoji-test"),
        ("zero_shot:imagnet", "zero_shot:imagenet"),
        ("imagenet", "zero_shot:imagenet"),
        ("zeroshot:emoji-style", "zero_shot:emoji-style"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(UserError, match=f"no task {name!r}; did you mean {nearest}"):
        open_task(name, None)


def test_shards_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match="val"):
        open_task(f"retrieval:{tmp_path}/val-*.tar", None)


def test_imagenet_without_a_folder_asks_for_one():
    with pytest.raises(UserError, match="--data PATH"):
        open_task("zero_shot:imagenet", None)


def test_imagenet_takes_labels_from_synsets_names_from_open_clip_and_notes_absent_classes(
    class_folders,
):
    (class_folders / ".DS_Store").write_bytes(b"")
    (class_folders / "n01440764" / ".hidden").write_bytes(b"")
    task = open_task("zero_shot:imagenet", class_folders)
    assert task.labels.tolist() == [0, 0, 1, 1, 1, 657]
    assert [task.class_names[n] for n in (0, 1, 657)] == ["tench", "goldfish", "missile"]
    assert len(task.class_names) == 1000
    assert len(task.templates) == 80
    assert "a photo of many {}." in task.templates
    assert task.notes == [f"997 of the 1,000 classes have no pictures in {class_folders}"]
    assert task.pictures.read(2)[0, 0].tolist() == [1, 0, 0]


def test_a_folder_that_is_no_synset_is_refused_by_name(class_folders):
    (class_folders / "tench").mkdir()
    with pytest.raises(UserError, match=r"no class of this task: tench \(3 are\)"):
        open_task("zero_shot:imagenet", class_folders)


@pytest.mark.parametrize("below", [".", "absent", "n01440764/deeper"])
def test_a_folder_without_class_folders_is_refused(tmp_path, below):
    (tmp_path / "n01440764" / "deeper").mkdir(parents=True)
    with pytest.raises(UserError, match=r"empty|no folder|no class folders"):
        open_task("zero_shot:imagenet", tmp_path / below)


def test_a_file_that_is_no_picture_is_found_when_it_is_read(class_folders):
    (class_folders / "n01440764" / "notes.txt").write_text("not a picture")
    task = open_task("zero_shot:imagenet", class_folders)
    with pytest.raises(BadSample, match="not a picture"):
        task.pictures.read(0)


def test_the_fingerprint_of_a_folder_changes_with_its_files(class_folders: Path):
    before = open_task("zero_shot:imagenet", class_folders).pictures.fingerprint
    assert open_task("zero_shot:imagenet", class_folders).pictures.fingerprint == before
    (class_folders / "n01440764" / "new.png").write_bytes(b"12345")
    assert open_task("zero_shot:imagenet", class_folders).pictures.fingerprint != before


def test_single_tasks_may_have_folders_of_their_own(class_folders, tmp_path):
    folders = {"zero_shot:imagenet": class_folders}
    for name in ("zero_shot:imagenet", "zero_shot:imagenet:openai"):
        assert len(open_task(name, tmp_path / "absent", folders).labels) == 6
    with pytest.raises(UserError, match=r"no folder .*absent"):
        open_task("zero_shot:imagenet-sketch", tmp_path / "absent", folders)


def test_whole_names_and_beginnings_of_names_are_apart():
    # A split of these may be named, and need not.
    both = {*SETS, "compositional:scenes"}
    assert not set(TASKS) & {start.removesuffix(":") for start in SPECS} - both
    assert all(start.endswith(":") for start in SPECS)
