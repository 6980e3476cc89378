"""Pictures as files and in tars: one rule for each odd kind, and fingerprints that notice changes."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines import reader
from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval import picture_sets
from eval.picture_sets import file_pictures, files_below, tar_pictures, without_border
from eval.suite import run_suite
from eval.tar_files import open_tar

GREY = np.full((6, 8), 100, dtype=np.uint8)
READABLE = {
    "grey.jpg": lambda: encoded(Image.fromarray(GREY), "JPEG"),
    "cmyk.jpg": lambda: encoded(Image.new("CMYK", (8, 6), (0, 0, 0, 155)), "JPEG"),
    "sixteen_bits.png": lambda: encoded(Image.fromarray(GREY.astype(np.uint16) * 256), "PNG"),
    "palette.png": lambda: encoded(Image.fromarray(GREY).convert("P"), "PNG"),
    "palette_of_one.png": lambda: encoded(
        Image.new("RGB", (8, 6), (100, 100, 100)).quantize(2), "PNG", transparency=1
    ),
    "half_transparent.png": lambda: encoded(Image.new("LA", (8, 6), (100, 255)), "PNG"),
    "still.webp": lambda: encoded(Image.fromarray(GREY), "WEBP", lossless=True),
}
"""Each is of one grey, 100, whatever its form."""
UNREADABLE = {
    "animated.webp": ("animated picture", lambda: moving("WEBP")),
    "animated.png": ("animated picture", lambda: moving("PNG")),
    "moving.gif": ("not a picture", lambda: moving("GIF")),
    "notes.txt": ("not a picture", lambda: b"notes"),
    "empty.jpg": ("not a picture", lambda: b""),
    "cut.png": ("truncated picture", lambda: encoded(Image.fromarray(GREY), "PNG")[:-30]),
}


def encoded(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def moving(form: str) -> bytes:
    frames = [Image.new("RGB", (8, 6), (shade, 0, 0)) for shade in (0, 200)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=100)


def tar_of(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def pictures_of_tar(path: Path):
    tar = open_tar(path)
    return tar_pictures([(tar, member) for member in tar.members])


@pytest.fixture
def folder(tmp_path):
    """One class folder with a picture of each kind, a link to nothing, and a pipe."""
    folder = tmp_path / "set"
    (folder / "grey").mkdir(parents=True)
    for name, make in READABLE.items():
        (folder / "grey" / name).write_bytes(make())
    for name, (_, make) in UNREADABLE.items():
        (folder / "grey" / name).write_bytes(make())
    (folder / "grey" / "link.png").symlink_to("absent.png")
    os.mkfifo(folder / "grey" / "pipe.png")
    (folder / "templates.txt").write_text("{c}\n")
    return folder


def test_grey_cmyk_sixteen_bit_and_palette_pictures_count_and_what_cannot_be_shown_is_counted(
    toy_encoder, folder
):
    (result,) = run_suite(toy_encoder, [f"zero_shot:folders:{folder}"], ["deep"], progress=False)
    assert result["num_pictures"] == len(READABLE)
    assert result["skipped"] == {
        "animated picture": 2,
        "not a picture": 3,
        "truncated picture": 1,
        "unreadable file": 1,
        "no file": 1,
    }


@pytest.mark.parametrize("in_tar", [False, True])
def test_each_kind_of_picture_is_seen_in_its_own_shade(tmp_path, in_tar):
    contents = {name: make() for name, make in READABLE.items()}
    if in_tar:
        pictures = pictures_of_tar(tar_of(tmp_path / "a.tar", contents))
    else:
        files = [tmp_path / name for name in contents]
        for file in files:
            file.write_bytes(contents[file.name])
        pictures = file_pictures(tmp_path, files)
    for number, name in enumerate(contents):
        pixels = pictures.read(number)
        assert pixels.shape == (6, 8, 3), name
        assert np.abs(pixels.astype(int) - 100).max() <= 2, name


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(READABLE["palette.png"]())
    pictures = file_pictures(tmp_path, [tmp_path / "a.png"])
    monkeypatch.setattr(picture_sets, "MAX_PICTURE_BYTES", 20)
    with pytest.raises(BadSample, match="picture file too large"):
        pictures.read(0)
    assert reader.MAX_PICTURE_BYTES == 64 * 2**20


def test_a_sample_without_a_picture_is_a_hole(tmp_path):
    tar = open_tar(tar_of(tmp_path / "a.tar", {"a.cls": b"1"}))
    with pytest.raises(BadSample, match="no picture"):
        tar_pictures([(tar, None)]).read(0)


@pytest.mark.parametrize("change", ["name", "contents", "order"])
def test_the_fingerprint_changes_with_names_contents_and_order(tmp_path, change):
    def fingerprint(contents: dict[str, bytes], where: str) -> tuple[str, str]:
        folder = tmp_path / where
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        files = file_pictures(folder, [folder / name for name in contents])
        return files.fingerprint, pictures_of_tar(tar_of(folder / "a.tar", contents)).fingerprint

    first = {"a.png": b"first", "b.png": b"other"}
    second = {
        "name": {"a.png": b"first", "c.png": b"other"},
        "contents": {"a.png": b"first", "b.png": b"otter"},
        "order": {"b.png": b"other", "a.png": b"first"},
    }[change]
    before, same, after = (
        fingerprint(contents, where)
        for contents, where in ((first, "first"), (first, "same"), (second, "second"))
    )
    assert before == same
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_hidden_files_and_folders_are_no_pictures(tmp_path):
    for name in ("b/2.png", "a.png", "b/1.png", ".hidden.png", ".git/c.png", "b/.thumbs/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [str(path.relative_to(tmp_path)) for path in files_below(tmp_path)]
    assert found == ["a.png", "b/1.png", "b/2.png"]


def test_a_folder_of_more_files_than_any_set_has_is_refused(tmp_path):
    for name in ("a", "b", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    assert len(files_below(tmp_path, 6)) == 2
    with pytest.raises(UserError, match="more than 4 files and folders lie below"):
        files_below(tmp_path, 4)


def test_a_border_is_cut_off_and_a_picture_that_is_nothing_else_is_a_hole(tmp_path):
    pixels = np.zeros((6, 9, 3), dtype=np.uint8)
    pixels[:2] = pixels[-2:] = pixels[:, :2] = pixels[:, -2:] = (255, 0, 0)
    pixels[2:-2, 2:-2] = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    files[0].write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    files[1].write_bytes(encoded(Image.fromarray(pixels[:4]), "PNG"))
    whole = file_pictures(tmp_path, files)
    inner = without_border(whole, 2)
    assert np.array_equal(inner.read(0), np.arange(30).reshape(2, 5, 3))
    with pytest.raises(BadSample, match="nothing within the border"):
        inner.read(1)
    assert (inner.num_pictures, inner.fingerprint == whole.fingerprint) == (2, False)
