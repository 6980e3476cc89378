"""Tars that are read in place, and those that are refused."""

import io
import os
import tarfile

import pytest

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval.tar_files import open_tar, tar_samples

PARTS = [
    ("val/a.jpg", b"jpeg"),
    ("val/a.cls", b"3"),
    ("val/b.PNG", b"png"),
    ("val/b.webp", b"webp"),
    ("README", b"no sample"),
    ("val/b.cls", b"\xff"),
    ("c.cls", b"1"),
    ("c.cls", b"2"),
]


@pytest.fixture
def tar_path(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in PARTS:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_members_are_read_in_place(tar_path):
    tar = open_tar(tar_path)
    assert [(m.name.decode(), tar.read(m.offset, m.size)) for m in tar.members] == PARTS


def test_what_is_no_file_is_passed_over_and_told(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in [("a", tarfile.DIRTYPE), ("b.jpg", tarfile.SYMTYPE), ("c.jpg", b"0")]:
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    opened = open_tar(tmp_path / "a.tar")
    assert [member.name for member in opened.members] == [b"c.jpg"]
    assert opened.notes == [f"passed over in {tmp_path / 'a.tar'}: link: 1"]


def test_neighbours_with_one_key_are_a_sample_and_a_part_met_twice_begins_another(tar_path):
    samples = list(tar_samples(open_tar(tar_path)))
    assert [(s.key, sorted(s.parts)) for s in samples] == [
        ("val/a", ["cls", "jpg"]),
        ("val/b", ["cls", "png", "webp"]),
        ("c", ["cls"]),
        ("c", ["cls"]),
    ]
    assert samples[1].picture is samples[1].parts["webp"]
    assert samples[2].picture is None
    assert (samples[0].text("cls"), samples[3].text("cls")) == ("3", "2")
    with pytest.raises(BadSample, match="bad utf-8"):
        samples[1].text("cls")
    with pytest.raises(BadSample, match="no txt"):
        samples[1].text("txt")


@pytest.mark.parametrize("length", [3, 600, 1024, 1600])
def test_a_tar_that_was_cut_is_refused(tar_path, length):
    with open(tar_path, "r+b") as file:
        file.truncate(length)
    with pytest.raises(UserError, match="it was cut, or is no tar"):
        open_tar(tar_path)


def test_a_damaged_header_a_compressed_file_a_folder_and_a_pipe_are_refused(tar_path, tmp_path):
    with open(tar_path, "r+b") as file:
        file.seek(1024 + 10)
        file.write(b"?")
    with pytest.raises(UserError, match=r"is damaged: .* at byte 1,024"):
        open_tar(tar_path)
    with tarfile.open(tmp_path / "b.tar", "w:gz") as tar:
        for number in range(400):
            tar.addfile(tarfile.TarInfo(os.urandom(20).hex() + str(number)))
    with pytest.raises(UserError, match=r"no tar file .compressed"):
        open_tar(tmp_path / "b.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    for path in (tmp_path, tmp_path / "pipe.tar"):
        with pytest.raises(UserError, match="no regular file"):
            open_tar(path)
    with pytest.raises(UserError, match="No such file"):
        open_tar(tmp_path / "absent.tar")


def test_a_tar_that_changes_after_it_was_opened_is_found_out(tar_path):
    tar = open_tar(tar_path)
    os.utime(tar_path, ns=(1, 1))
    with pytest.raises(UserError, match="has changed since"):
        tar.read(512, 4)
