"""Any folder of class folders: what its classes are called, and in which sentences."""

import json

import pytest

from data_pipelines.errors import UserError
from eval import labelled_pictures
from eval.prompts import openai_templates
from eval.suite import run_suite
from eval.tasks import open_task


@pytest.fixture
def folder(tmp_path, png):
    folder = tmp_path / "animals"
    for name in ("red_fox", "kit fox", "ant"):
        (folder / name / "deeper").mkdir(parents=True)
        (folder / name / "deeper" / "a.png").write_bytes(png)
    (folder / ".cache").mkdir()
    return folder


def test_classes_are_called_like_their_folders(folder):
    task = open_task(f"zero_shot:folders:{folder}", None)
    assert task.class_names == ["ant", "kit fox", "red fox"]
    assert task.labels.tolist() == [0, 1, 2]
    assert task.templates == openai_templates()
    assert (task.dataset, task.notes) == ("animals", [])
    assert "3 names of the folders" in task.rule


def test_names_in_a_list_go_by_the_order_of_the_folders(folder):
    (folder / "classnames.txt").write_text("Ameise\nSwiftfuchs\nRotfuchs\n")
    (folder / "templates.txt").write_text("ein Bild von {}\n{c}\n")
    task = open_task("zero_shot:folders:animals", folder.parent)
    assert task.class_names == ["Ameise", "Swiftfuchs", "Rotfuchs"]
    assert task.templates == ("ein Bild von {}", "{}")


def test_names_in_a_table_may_have_classes_without_pictures(folder):
    table = {"kit fox": "Swiftfuchs", "bee": "Biene", "ant": "Ameise", "red_fox": "Rotfuchs"}
    (folder / "classnames.json").write_text(json.dumps(table))
    task = open_task(f"zero_shot:folders:{folder}", None)
    assert task.class_names == ["Swiftfuchs", "Biene", "Ameise", "Rotfuchs"]
    # In the order of the table's folders' names: ant, kit fox, red_fox.
    assert task.labels.tolist() == [2, 0, 3]
    assert task.notes == [f"1 of the 4 classes have no pictures in {folder}"]


def test_a_name_in_a_table_that_is_no_text_is_refused_before_pictures_are_read(folder, toy_encoder):
    table = {"kit fox": "\ud800", "ant": "Ameise", "red_fox": "Rotfuchs"}
    (folder / "classnames.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"class 0 is called '\\ud800', .* mend the names"):
        run_suite(toy_encoder, [f"zero_shot:folders:{folder}"], ["deep"])
    assert not toy_encoder.picture_batches


def test_a_class_folder_without_pictures_stays_a_candidate(folder):
    (folder / "bee").mkdir()
    task = open_task(f"zero_shot:folders:{folder}", None)
    assert task.class_names == ["ant", "bee", "kit fox", "red fox"]
    assert task.labels.tolist() == [0, 2, 3]
    assert task.notes == [f"1 of the 4 classes have no pictures in {folder}"]


@pytest.mark.parametrize(
    ("folders", "lines", "named"),
    [
        # By number: classes 3 and 7 have no pictures.
        (["10", "2", "0", "9"], 12, ["class 0", "class 10", "class 2", "class 9"]),
        # Counted from 1: then by their order, as numbers.
        (
            ["1", "10", *"23456789"],
            10,
            ["class 0", "class 9", *(f"class {n}" for n in range(1, 9))],
        ),
        (["001", "002", "010"], 3, ["class 0", "class 1", "class 2"]),
    ],
)
def test_folders_that_are_numbers_are_not_taken_by_the_alphabet(
    tmp_path, png, folders, lines, named
):
    for name in folders:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(png)
    (tmp_path / "classnames.txt").write_text("\n".join(f"class {n}" for n in range(lines)))
    task = open_task(f"zero_shot:folders:{tmp_path}", None)
    by_folder = dict(zip(sorted(folders), named, strict=True))
    # Pictures stand in the order of the alphabet, whatever their classes.
    assert [task.class_names[label] for label in task.labels.tolist()] == [
        by_folder[name] for name in sorted(folders)
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"classnames.txt": "ant\nbee\n"}, "2 names for 3 class folders"),
        ({"classnames.json": '{"ant": "Ameise"}'}, "no name for 2 of the 3 .* such as 'kit fox'"),
        ({"classnames.json": '["ant"]'}, "no table of texts"),
        (
            {"classnames.txt": "a", "classnames.json": "{}"},
            "both classnames.txt and classnames.json",
        ),
        ({"templates.txt": "a picture\n"}, "line 1 of .* has no place for a name: 'a picture'"),
    ],
)
def test_names_and_sentences_that_do_not_fit_are_refused(folder, files, message):
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_task(f"zero_shot:folders:{folder}", None)


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*absent"):
        open_task(f"zero_shot:folders:{tmp_path}/absent", None)
    with pytest.raises(UserError, match="holds no class folders"):
        open_task(f"zero_shot:folders:{tmp_path}", None)
    (tmp_path / "ant").mkdir()
    with pytest.raises(UserError, match="are empty"):
        open_task(f"zero_shot:folders:{tmp_path}", None)


def test_a_task_over_a_whole_disk_is_refused(folder, monkeypatch):
    monkeypatch.setattr(labelled_pictures, "MAX_FILES", 1)
    with pytest.raises(UserError, match="files and folders lie below"):
        open_task(f"zero_shot:folders:{folder}", None)
