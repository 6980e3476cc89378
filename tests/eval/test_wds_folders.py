"""Folders in CLIP_benchmark's layout: what they say, and what is refused."""

import io

import numpy as np
import pytest
import webdataset
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from eval.prompts import openai_templates
from eval.suite import run_suite
from eval.task_kinds import RetrievalTask, ZeroShotTask
from eval.tasks import open_task
from eval.wds_folders import shards_of, wds_folder


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def write(folder, shards: list[list[dict[str, bytes]]]) -> None:
    (folder / "test").mkdir(parents=True)
    number = 0
    for place, samples in enumerate(shards):
        named = [(f"s{number + n:07d}", parts) for n, parts in enumerate(samples)]
        write_shard(folder / "test" / f"{place}.tar", named)
        number += len(samples)
    (folder / "test" / "nshards.txt").write_text(f"{len(shards)}\n")


@pytest.fixture
def folder(tmp_path):
    """Eleven shards of one picture each, of the classes 0 1 2 0 1 2 …, of which none is class 3."""
    folder = tmp_path / "wds_animals"
    write(folder, [[{"webp": picture(n), "cls": b"%d" % (n % 3)}] for n in range(11)])
    (folder / "classnames.txt").write_text("ant\nbee\ncat\ndog\n")
    (folder / "zeroshot_classification_templates.txt").write_text(
        "a photo of a {c}.\n{c}, an animal\n"
    )
    return folder


@pytest.fixture
def captions(tmp_path):
    folder = tmp_path / "wds_captions"
    texts = ["a cat\nthe cat \n", "a dog", "a cat", " \n", "über\u2028lines"]
    samples = [{"webp": picture(n), "txt": text.encode()} for n, text in enumerate(texts)]
    write(folder, [samples[:3], [*samples[3:], {"webp": picture(9)}]])
    (folder / "dataset_type.txt").write_text("retrieval\n")
    return folder


def test_a_folder_with_class_names_is_a_classification_task(folder):
    task = open_task(f"wds:{folder}", None)
    assert isinstance(task, ZeroShotTask)
    assert task.dataset == "wds_animals"
    assert task.class_names == ["ant", "bee", "cat", "dog"]
    assert task.templates == ("a photo of a {}.", "{}, an animal")
    # 10.tar stands behind 9.tar, not behind 1.tar.
    assert task.labels.tolist() == [n % 3 for n in range(11)]
    assert task.notes == [f"1 of the 4 classes have no pictures in {folder}"]
    assert np.array_equal(task.pictures.read(10), Image.open(io.BytesIO(picture(10))))


def test_what_webdataset_writes_is_read_as_webdataset_reads_it(tmp_path):
    folder = tmp_path / "set"
    (folder / "test").mkdir(parents=True)
    pattern = str(folder / "test" / "%d.tar")
    with webdataset.ShardWriter(pattern, maxcount=2, verbose=0) as sink:
        for number in range(5):
            sink.write({"__key__": f"s{number:07d}", "webp": picture(number), "cls": number % 2})
    (folder / "classnames.txt").write_text("ant\nbee\n")
    task = open_task(f"wds:{folder}", None)
    for number, (pixels, label) in enumerate(_as_webdataset_reads(folder / "test")):
        assert np.array_equal(task.pictures.read(number), pixels)
        assert task.labels[number] == label
    assert task.pictures.num_pictures == 5


def _as_webdataset_reads(folder):
    """Pixels and class of each sample."""
    for path in sorted(folder.glob("*.tar")):
        with open(path, "rb") as file:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                yield np.array(Image.open(io.BytesIO(sample["webp"]))), int(sample["cls"])


def test_a_folder_of_captions_is_a_retrieval_task(captions):
    task = open_task(f"wds:{captions}", None)
    assert isinstance(task, RetrievalTask)
    assert task.texts == ["a cat", "the cat", "a dog", "über\u2028lines"]
    assert task.right_pairs.tolist() == [[0, 0], [0, 1], [1, 2], [2, 0], [4, 3]]
    assert task.missing == {3: "empty caption", 5: "no txt"}
    assert task.pictures.num_pictures == 6


def test_without_its_kind_a_folder_is_told_by_its_class_names(captions, folder):
    (captions / "dataset_type.txt").unlink()
    assert isinstance(open_task(f"wds:{captions}", None), RetrievalTask)
    (folder / "dataset_type.txt").write_text("classification")
    assert isinstance(open_task(f"wds:{folder}", None), ZeroShotTask)


def test_the_folder_lies_below_data_and_another_split_can_be_read(folder, tmp_path):
    (folder / "test").rename(folder / "train")
    task = wds_folder("wds:wds_animals", "wds_animals", tmp_path, split="train")
    assert len(task.labels) == 11
    with pytest.raises(UserError, match=r"test holds no shards"):
        open_task("wds:wds_animals", tmp_path)


def test_both_kinds_can_be_measured(toy_encoder, folder, captions):
    names = [f"wds:{folder}", f"wds:{captions}"]
    animals, caption = run_suite(toy_encoder, names, ["deep"], progress=False)
    assert (animals["num_pictures"], animals["num_classes"], animals["skipped"]) == (11, 4, {})
    assert (caption["num_pictures"], caption["num_texts"]) == (4, 4)
    assert caption["skipped"] == {"empty caption": 1, "no txt": 1}


def test_samples_without_a_picture_or_a_class_are_counted(toy_encoder, tmp_path):
    folder = tmp_path / "set"
    parts = [
        {"webp": picture(0), "cls": b" 1\n"},
        {"webp": picture(1)},
        {"cls": b"0"},
        {"webp": b"no picture", "cls": b"0"},
        {"webp": picture(2), "cls": b"\xff"},
    ]
    write(folder, [parts])
    (folder / "classnames.txt").write_text("ant\nbee\n")
    (folder / "templates.txt").write_text("{}\n")
    (result,) = run_suite(toy_encoder, [f"wds:{folder}"], ["deep"], progress=False)
    assert result["num_pictures"] == 1
    assert result["skipped"] == {
        "no cls": 1,
        "no picture": 1,
        "not a picture": 1,
        "bad utf-8": 1,
    }


def test_without_sentences_those_for_imagenet_are_taken_and_named(folder):
    (folder / "zeroshot_classification_templates.txt").unlink()
    task = open_task(f"wds:{folder}", None)
    assert task.templates == openai_templates()
    assert "OpenAI's 80 sentences for ImageNet" in task.rule


@pytest.mark.parametrize("label", ["4", "-1", "cat", "1.0", "", "\u0661", "9" * 5000])
def test_a_class_that_there_is_not_is_refused_by_its_sample(tmp_path, label):
    folder = tmp_path / "set"
    write(folder, [[{"webp": picture(0), "cls": label.encode()}]])
    (folder / "classnames.txt").write_text("ant\nbee\ncat\ndog\n")
    with pytest.raises(UserError, match=r"the class of s0000000 in .*0.tar is .* classes 0 to 3"):
        open_task(f"wds:{folder}", None)


@pytest.mark.parametrize(
    ("file_name", "text", "message"),
    [
        ("classnames.txt", "ant\n\ncat\n", "line 2 of .* is empty"),
        ("zeroshot_classification_templates.txt", "a {c}\na cat\n", "line 2 of .* no place for"),
        ("dataset_type.txt", "multilabel\n", "several labels for each picture"),
        ("dataset_type.txt", "segmentation\n", "says 'segmentation'"),
        ("test/nshards.txt", "12\n", "says '12', but .* holds 11 shards"),
        ("test/nshards.txt", "many\n", "says 'many', but"),
        ("test/3.tar", "no tar", "is no tar"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder, file_name, text, message):
    (folder / file_name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_task(f"wds:{folder}", None)


def test_a_folder_that_is_not_there_or_holds_neither_kind_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"no folder absent; give one that holds test/0.tar"):
        open_task("wds:absent", tmp_path)
    (folder / "classnames.txt").unlink()
    with pytest.raises(UserError, match=r"no sample in .* has a caption, and .* has no classnames"):
        open_task(f"wds:{folder}", None)


def test_shards_stand_in_the_order_of_their_numbers(tmp_path):
    for name in ("10.tar", "9.tar", "0.tar", "part-2.tar", ".hidden.tar", "nshards.md"):
        (tmp_path / name).touch()
    assert [path.name for path in shards_of(tmp_path)] == ["0.tar", "9.tar", "10.tar", "part-2.tar"]
