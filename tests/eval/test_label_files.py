"""Which label files are read, and which are refused with a reason."""

import zlib

import numpy as np
import pytest

from data_pipelines.errors import UserError
from eval import label_files
from eval.label_files import find_label_file, read_label_file

SYNSETS = {
    "ILSVRC2012_val_00000001": "n01751748",
    "ILSVRC2012_val_00000002": "n09193705",
    "ILSVRC2012_val_00000003": "n02105855",
}


def written(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    return path


def kaggle(rows: list[str]) -> str:
    return "\r\n".join(["ImageId,PredictionString", *rows, ""])


def devkit(tmp_path, first_id: int = 1):
    """A kit that numbers the classes backwards, and has one synset above them."""
    from scipy.io import savemat

    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    classes = list(reversed(list(SYNSETS.values())))
    rows = [(first_id + n, synset, "a, b", 0) for n, synset in enumerate(classes)]
    rows.append((first_id + 3, "n00001740", "entity", 2))
    synsets = np.empty((len(rows), 1), dtype=kinds)
    for number, row in enumerate(rows):
        synsets[number, 0] = row
    savemat(tmp_path / "meta.mat", {"synsets": synsets}, do_compression=True)
    return written(tmp_path, label_files.GROUND_TRUTH, "3\n2\n1\n")


def test_lists_of_pictures_and_synsets_are_read(tmp_path):
    lines = "\n".join(f"{name}.JPEG {synset}" for name, synset in SYNSETS.items())
    assert read_label_file(written(tmp_path, "val.txt", lines + "\n")) == SYNSETS


def test_kaggles_file_is_read_in_any_order_and_with_several_boxes(tmp_path):
    rows = [f"{name},{synset} 85 1 499 272 " for name, synset in SYNSETS.items()]
    rows[1] = rows[1].rstrip() + " n09193705 1 2 3 4 "
    path = written(tmp_path, "LOC_val_solution.csv", kaggle(rows[::-1]))
    assert read_label_file(path) == SYNSETS


def test_the_development_kits_own_numbers_are_read_through_its_own_map(tmp_path):
    pytest.importorskip("scipy")
    assert read_label_file(devkit(tmp_path)) == SYNSETS


def test_the_kits_numbers_without_its_map_are_refused_with_the_reason(tmp_path):
    path = written(tmp_path, label_files.GROUND_TRUTH, "490\n361\n171\n")
    with pytest.raises(UserError, match=r"an order that only .* meta.mat tells"):
        read_label_file(path)


def test_a_kit_that_does_not_know_a_number_is_of_another_kind(tmp_path):
    pytest.importorskip("scipy")
    with pytest.raises(UserError, match=r"line 3 .* '1', which is no class in meta.mat"):
        read_label_file(devkit(tmp_path, first_id=2))


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB", b"\0" * 400, b"x" * 128 + b"\x0f\0\0\0\xff\0\0\0"]
)
def test_a_map_that_is_none_is_refused(tmp_path, content):
    pytest.importorskip("scipy")
    path = written(tmp_path, label_files.GROUND_TRUTH, "1\n")
    (tmp_path / "meta.mat").write_bytes(content)
    with pytest.raises(UserError, match="is not the development kit's"):
        read_label_file(path)


def test_a_map_that_unpacks_to_more_than_it_needs_is_refused_before_it_is_parsed(
    tmp_path, monkeypatch
):
    pytest.importorskip("scipy")
    path = devkit(tmp_path)
    monkeypatch.setattr(label_files, "MAX_MAT_BYTES", 1_500)
    assert (tmp_path / "meta.mat").stat().st_size < 1_500
    with pytest.raises(UserError, match="unpacks to more than 1,500 bytes"):
        read_label_file(path)


def test_a_map_is_unpacked_no_further_than_to_the_limit(tmp_path, monkeypatch):
    pytest.importorskip("scipy")
    path = written(tmp_path, label_files.GROUND_TRUTH, "1\n")
    packed = zlib.compress(bytes(1_000))
    element = b"\x0f\0\0\0" + len(packed).to_bytes(4, "little") + packed
    (tmp_path / "meta.mat").write_bytes(bytes(128) + 20 * element)
    opened = []
    real = zlib.decompressobj
    monkeypatch.setattr(label_files.zlib, "decompressobj", lambda: opened.append(1) or real())
    monkeypatch.setattr(label_files, "MAX_MAT_BYTES", 2_500)
    with pytest.raises(UserError, match="unpacks to more than 2,500 bytes"):
        read_label_file(path)
    assert len(opened) == 2


def test_a_map_that_does_not_unpack_is_refused(tmp_path):
    pytest.importorskip("scipy")
    path = written(tmp_path, label_files.GROUND_TRUTH, "1\n")
    (tmp_path / "meta.mat").write_bytes(bytes(128) + b"\x0f\0\0\0\4\0\0\0none")
    with pytest.raises(UserError, match="is not the development kit's"):
        read_label_file(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.JPEG n01751748\nb.JPEG 65\n", r"line 2 .* the class '65', which is no synset"),
        ("a.JPEG n01751748\nc.JPEG\n", r"line 2 .* is 'c.JPEG'; write a picture and its synset"),
        ("a.JPEG n01751748\na.JPEG n09193705\n", r"line 2 .* names a.JPEG a second time"),
        ("65\n", r"line 1 .* is '65'; write a picture and its synset"),
    ],
)
def test_a_list_that_says_something_else_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_label_file(written(tmp_path, "val.txt", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with ImageId"),
        ("id,label\na,b\n", "does not begin with ImageId"),
        (kaggle(["a," + "b" * 131_073]), "is no table .*field limit"),
        (kaggle(["a"]), "line 2 .* is not a picture and boxes of one synset"),
        (kaggle(["a,n01751748 1 2 3"]), "line 2 .* is not a picture and boxes of one synset"),
        (kaggle(["a,n01751748 1 2 3 4 n09193705 1 2 3 4"]), "boxes of one synset"),
    ],
)
def test_a_file_that_is_not_kaggles_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_label_file(written(tmp_path, "LOC_val_solution.csv", text))


def test_the_first_file_in_the_first_folder_is_taken(tmp_path):
    (tmp_path / "kit").mkdir()
    assert find_label_file([tmp_path, tmp_path / "kit"]) is None
    truth = written(tmp_path / "kit", label_files.GROUND_TRUTH, "1")
    assert find_label_file([tmp_path, tmp_path / "kit"]) == truth
    listed = written(tmp_path, "val.txt", "")
    assert find_label_file([tmp_path, tmp_path / "kit"]) == listed
    assert find_label_file([tmp_path / "kit", tmp_path]) == truth
