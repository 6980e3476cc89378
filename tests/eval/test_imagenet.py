"""ImageNet and its versions in each form in which they lie on disks, as miniatures."""

import io
import json
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from eval import imagenet as module
from eval import labelled_pictures
from eval.imagenet import ALL_SYNSETS, SETS, timm_synsets
from eval.prompts import PROMPTS, Prompts, imagenet_prompts
from eval.suite import run_suite
from eval.tasks import open_task

SYNSETS = timm_synsets(ALL_SYNSETS)
CLASSES = [65, 65, 65, 795, 970, 230, 0, 999]
"""Of eight pictures of the validation set, in the order of their numbers."""
NAMES = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 9)]


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_flat(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        (folder / f"{name}.JPEG").write_bytes(picture(number))


def write_class_folders(folder: Path, folder_names: list[str] | None = None) -> None:
    names = folder_names or [SYNSETS[class_number] for class_number in CLASSES]
    for number, (name, class_folder) in enumerate(zip(NAMES, names, strict=True)):
        (folder / class_folder).mkdir(parents=True, exist_ok=True)
        (folder / class_folder / f"{name}.JPEG").write_bytes(picture(number))


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        # Not in the order of their names, as in the real one.
        for number in reversed(range(8)):
            member = tarfile.TarInfo(f"{NAMES[number]}.JPEG")
            member.size = len(picture(number))
            tar.addfile(member, io.BytesIO(picture(number)))


def write_list(path: Path) -> None:
    rows = zip(NAMES, CLASSES, strict=True)
    path.write_text("".join(f"{name}.JPEG {SYNSETS[number]}\n" for name, number in rows))


def write_kaggle(path: Path) -> None:
    rows = zip(NAMES, CLASSES, strict=True)
    lines = [f"{name},{SYNSETS[number]} 1 2 3 4 " for name, number in rows]
    path.write_text("\n".join(["ImageId,PredictionString", *lines]))


def write_shards(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for shard, numbers in enumerate((range(3), range(3, 8))):
        write_shard(
            folder / f"imagenet1k-validation-{shard:02d}.tar",
            (
                (NAMES[n], {"jpg": picture(n), "cls": b"%d" % CLASSES[n], "json": b"{}"})
                for n in numbers
            ),
        )


def as_torchvision(root: Path) -> None:
    write_class_folders(root / "val")


def as_kaggle(root: Path) -> None:
    write_flat(root / "ILSVRC/Data/CLS-LOC/val")
    write_kaggle(root / "LOC_val_solution.csv")


def as_flat_with_a_list(root: Path) -> None:
    write_flat(root)
    write_list(root / "val.txt")


def as_raw_tar(root: Path) -> None:
    write_tar(root / "ILSVRC2012_img_val.tar")
    write_list(root / "val.txt")


def as_shards_beside_those_of_training(root: Path) -> None:
    write_shards(root)
    (root / "imagenet1k-train-0000.tar").write_bytes(b"never opened")


FORMS = [
    write_class_folders,
    as_torchvision,
    as_kaggle,
    as_flat_with_a_list,
    as_raw_tar,
    write_shards,
    as_shards_beside_those_of_training,
]


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def seen(task) -> dict[bytes, tuple[int, tuple[int, ...], str]]:
    """What the task says of each picture, by its pixels."""
    return {
        task.pictures.read(n).tobytes(): (
            int(task.labels[n]),
            tuple(task.also_right[task.also_right[:, 0] == n, 1].tolist()),
            task.missing.get(n, ""),
        )
        for n in range(task.pictures.num_pictures)
    }


@pytest.mark.parametrize("write", FORMS)
def test_each_form_of_the_same_pictures_is_the_same_task(data, write):
    write(data)
    task = open_task("zero_shot:imagenet", data)
    expected = {
        np.asarray(Image.open(io.BytesIO(picture(n)))).tobytes(): (CLASSES[n], (), "")
        for n in range(8)
    }
    assert seen(task) == expected
    assert task.notes[0] == f"994 of the 1,000 classes have no pictures in {data}"


def test_folders_tar_and_shards_of_the_same_pictures_give_the_same_metrics_and_predictions(
    toy_encoder, tmp_path, monkeypatch
):
    names = imagenet_prompts().class_names
    short = Prompts(class_names=names, templates=("{}",), source="their names")
    monkeypatch.setattr(module, "imagenet_prompts", lambda choice: short)
    sentences = toy_encoder.encode_texts(names, ["deep"])["deep"]
    results, predictions = [], []
    for write in (write_class_folders, as_raw_tar, write_shards):
        data = tmp_path / write.__name__
        data.mkdir()
        write(data)
        (result,) = run_suite(
            toy_encoder, ["zero_shot:imagenet"], ["deep"], data=data, progress=False
        )
        results.append((result["metrics"], result["num_pictures"], result["chance"]))
        task = open_task("zero_shot:imagenet", data)
        pictures = [task.pictures.read(n) for n in range(8)]
        best = [(sentences @ _some_vector(picture)).argmax().item() for picture in pictures]
        predictions.append({p.tobytes(): b for p, b in zip(pictures, best, strict=True)})
    assert results[0] == results[1] == results[2]
    assert predictions[0] == predictions[1] == predictions[2]
    assert len(set(predictions[0].values())) > 1


def _some_vector(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels[:8, 0, :].astype(np.float32).ravel() - 128)


def test_a_tar_alone_asks_for_labels_and_the_tar_itself_may_be_named(data):
    write_tar(data / "ILSVRC2012_img_val.tar")
    with pytest.raises(UserError, match=r"put LOC_val_solution.csv, val.txt or ILSVRC2012_"):
        open_task("zero_shot:imagenet", data)
    write_list(data / "labels.txt")
    task = open_task("zero_shot:imagenet", data / "ILSVRC2012_img_val.tar")
    assert task.labels.tolist() == CLASSES
    assert task.notes[1:] == [f"classes are those in {data / 'labels.txt'}"]


def test_a_picture_without_a_label_and_a_synset_of_another_set_are_refused(data):
    as_raw_tar(data)
    lines = (data / "val.txt").read_text().splitlines()
    (data / "val.txt").write_text("\n".join(lines[:-2]))
    with pytest.raises(UserError, match=r"2 of the 8 pictures in .* are not in .*, such as .*0007"):
        open_task("zero_shot:imagenet", data)
    (data / "val.txt").write_text("\n".join(lines).replace(SYNSETS[999], "n00000001"))
    with pytest.raises(UserError, match=r"1 of the synsets in .* such as n00000001"):
        open_task("zero_shot:imagenet", data)


def test_two_pictures_of_one_name_are_found_soon_among_many(tmp_path):
    names = [f"{number}.jpg" for number in range(20_000)]
    (tmp_path / "val.txt").write_text(f"a.jpg {SYNSETS[0]}\n")
    began = time.process_time()
    with pytest.raises(UserError, match="several pictures called 19999"):
        labelled_pictures._labels_of([*names, "x/19999.png"], tmp_path, tmp_path / "val.txt", {})
    assert time.process_time() - began < 1


def test_links_in_a_tar_are_noted(data):
    as_raw_tar(data)
    with tarfile.open(data / "ILSVRC2012_img_val.tar", "a") as tar:
        member = tarfile.TarInfo("ILSVRC2012_val_00000009.JPEG")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    task = open_task("zero_shot:imagenet", data)
    assert task.pictures.num_pictures == 8
    assert task.notes[-1] == f"passed over in {data / 'ILSVRC2012_img_val.tar'}: link: 1"


def test_labels_of_pictures_that_are_not_there_are_noted(data):
    as_flat_with_a_list(data)
    (data / f"{NAMES[3]}.JPEG").unlink()
    task = open_task("zero_shot:imagenet", data)
    assert task.notes[-1] == f"1 of the 8 pictures in it are not in {data}"


def test_folders_of_version_two_are_class_numbers_and_not_in_the_order_of_the_alphabet(data):
    write_class_folders(data / "imagenetv2", [str(number) for number in CLASSES])
    task = open_task("zero_shot:imagenet-v2", data)
    # By the alphabet 999 would be the last of six, and 65 the third.
    assert sorted(task.labels.tolist()) == sorted(CLASSES)
    files = sorted((data / "imagenetv2").rglob("*.JPEG"))
    assert task.labels.tolist() == [int(file.parent.name) for file in files]
    assert task.class_names[65] == imagenet_prompts().class_names[65]
    with pytest.raises(UserError, match=r"no class of this task: 0, 230"):
        open_task("zero_shot:imagenet", data / "imagenetv2")


@pytest.mark.parametrize(
    ("name", "dataset", "first"),
    [
        ("zero_shot:imagenet-a", "imagenet-a", "stingray"),
        ("zero_shot:imagenet-r", "imagenet-r", "goldfish"),
    ],
)
def test_candidates_of_a_subset_are_its_own_two_hundred_classes(data, name, dataset, first):
    synsets = timm_synsets(SETS[name].synsets)
    for number in (0, 7, 199):
        (data / dataset / synsets[number]).mkdir(parents=True)
        (data / dataset / synsets[number] / "a.jpg").write_bytes(picture(number))
    task = open_task(name, data)
    assert task.labels.tolist() == [0, 7, 199]
    assert (len(task.class_names), task.class_names[0]) == (200, first)
    all_names = imagenet_prompts().class_names
    assert task.class_names == [all_names[SYNSETS.index(synset)] for synset in synsets]
    assert (task.dataset, task.notes) == (
        dataset,
        [f"197 of the 200 classes have no pictures in {data}"],
    )
    foreign = next(synset for synset in SYNSETS if synset not in synsets)
    (data / dataset / foreign).mkdir()
    with pytest.raises(UserError, match=rf"no class of this task: {foreign} .3 are."):
        open_task(name, data)


def test_shards_of_a_subset_number_its_own_classes(data):
    write_shards(data)
    with pytest.raises(UserError, match=r"is '795'; this task has classes 0 to 199"):
        open_task("zero_shot:imagenet-a", data)


def test_sketches_are_found_where_their_archive_puts_them(data):
    write_class_folders(data / "sketch")
    task = open_task("zero_shot:imagenet-sketch", data)
    assert (task.dataset, len(task.class_names)) == ("imagenet_sketch", 1000)


@pytest.mark.parametrize("write", [write_class_folders, as_raw_tar, write_shards])
def test_each_real_label_is_right_and_a_picture_without_one_does_not_count(data, write):
    write(data)
    real = json.loads(module._timm_file(module.REAL_LABELS).read_text())
    assert real[:6] == [[], [970, 795], [230, 231], [809], [516, 850], [57]]
    found = seen(open_task("zero_shot:imagenet-real", data))
    by_number = [found[np.asarray(Image.open(io.BytesIO(picture(n)))).tobytes()] for n in range(8)]
    assert by_number[0][2] == "no ReaL label"
    # ImageNet says 65, 65, 795 of pictures 2, 3, 4; ReaL agrees with none.
    assert by_number[1:4] == [(970, (795,), ""), (230, (231,), ""), (809, (), "")]
    assert by_number[4] == (516, (850,), "")


def test_imagenets_own_label_stays_the_class_where_real_labels_agree(data):
    (data / SYNSETS[795]).mkdir()
    (data / SYNSETS[795] / "ILSVRC2012_val_00000002_n04228054.JPEG").write_bytes(picture(1))
    task = open_task("zero_shot:imagenet-real", data)
    assert task.labels.tolist() == [795]
    assert task.also_right.tolist() == [[0, 970]]


@pytest.mark.parametrize("name", ["picture", "ILSVRC2012_val_00050001", "ILSVRC2012_val_00000000"])
def test_real_labels_need_the_names_of_the_validation_set(data, name):
    (data / SYNSETS[0]).mkdir()
    (data / SYNSETS[0] / f"{name}.JPEG").write_bytes(picture(0))
    with pytest.raises(UserError, match=f"go by the names .* and {SYNSETS[0]}/{name}.JPEG has"):
        open_task("zero_shot:imagenet-real", data)


@pytest.mark.parametrize("choice", PROMPTS[1:])
def test_prompts_can_be_chosen_where_clip_benchmark_is_installed(data, choice):
    pytest.importorskip("clip_benchmark")
    (data / "imagenet-r" / "n01443537").mkdir(parents=True)
    (data / "imagenet-r" / "n01443537" / "a.jpg").write_bytes(picture(0))
    task = open_task(f"zero_shot:imagenet-r:{choice}", data)
    assert task.labels.tolist() == [0]
    if choice == "cupl":
        assert task.language == "en"
        assert {len(sentences) for sentences in task.class_sentences} == {150}
        assert "goldfish" in task.class_sentences[0][-1]
        assert len(task.class_sentences) == 200
    else:
        assert task.language == choice
        assert all("{}" in template and "{c}" not in template for template in task.templates)
        assert not task.class_names[0].isascii() or choice == "it"
    assert "clip-benchmark 1." in task.rule


def test_prompts_that_there_are_not_and_a_package_that_is_not_there_are_named(data, monkeypatch):
    write_class_folders(data)
    with pytest.raises(UserError, match="no prompts 'klingon'; take one of openai, cupl, ar"):
        open_task("zero_shot:imagenet:klingon", data)
    monkeypatch.setattr("eval.prompts.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install clip-benchmark"):
        open_task("zero_shot:imagenet:it", data)
    assert open_task("zero_shot:imagenet:openai", data).labels.tolist() == sorted(CLASSES)


def test_data_that_is_not_there_or_holds_something_else_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="needs --data PATH"):
        open_task("zero_shot:imagenet-v2", None)
    with pytest.raises(UserError, match=r"no folder .*absent"):
        open_task("zero_shot:imagenet", tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no class folders; .* like n01440764"):
        open_task("zero_shot:imagenet", data)
