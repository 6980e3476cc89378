import os

import braceexpand
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.sources import expand_braces, resolve_local_shards, resolve_shards


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for number in range(12):
        (tmp_path / f"part-{number:03d}.tar").write_bytes(b"")
    (tmp_path / "other.tar").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(specs):
    return [str(path) for path in resolve_shards(specs)]


def test_a_path_a_glob_and_a_range_name_shards_in_order(folder):
    assert names(["other.tar"]) == ["other.tar"]
    assert names(["part-00[0-2].tar"]) == ["part-000.tar", "part-001.tar", "part-002.tar"]
    assert names(["part-{009..011}.tar"]) == ["part-009.tar", "part-010.tar", "part-011.tar"]
    assert names(["other.tar", "part-000.tar"]) == ["other.tar", "part-000.tar"]


def test_commas_separate_names_but_not_inside_braces(folder):
    assert names(["other.tar, part-{003,001}.tar"]) == ["other.tar", "part-003.tar", "part-001.tar"]


def test_addresses_are_named_by_ranges_and_lists(folder):
    assert names(["HTTP://host:80/a/{08..10}.tar?key={x,y}, other.tar"])[::6] == [
        "http://host:80/a/08.tar", "other.tar"
    ]  # fmt: skip
    shards = resolve_shards(["https://[::1]/a%2Cb.tar?signature=secret"])
    assert [(str(shard), shard.name) for shard in shards] == [
        ("https://[::1]/a%2Cb.tar", "a%2Cb.tar")
    ]
    assert "secret" not in repr(shards)
    with pytest.raises(UserError, match="reads whole files; copy it here first"):
        resolve_local_shards(["other.tar", "http://host/x.tar"])


def test_a_list_may_be_longer_than_a_name(folder):
    listed = [f"one-of-a-list-of-shards-{number}.tar" for number in range(30)]
    for name in listed:
        (folder / name).write_bytes(b"")
    assert names([",".join(listed)]) == listed


def test_devices_and_pipes_are_no_shards(folder):
    os.mkfifo(folder / "pipe.tar")
    for spec in ("/dev/zero", "/dev/zer[o]", "pipe.tar", "pip*.tar"):
        with pytest.raises(UserError, match=r"no regular file|no file matches"):
            resolve_shards([spec])


def test_a_name_that_looks_like_a_pattern_is_taken_when_the_file_exists(folder):
    (folder / "odd{1..3},[x].tar").write_bytes(b"")
    assert names(["odd{1..3},[x].tar"]) == ["odd{1..3},[x].tar"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pipe:cat part-000.tar", "commands are never run"),
        ("PIPE:touch owned", "commands are never run"),
        ("other.tar,pipe:touch owned", "commands are never run"),
        ("cat x.tar |", "commands are never run"),
        ("s3:bucket/x.tar", "an address of a kind that is not read"),
        ("file:///x.tar", "an address of a kind that is not read"),
        ("simplecache::s3://bucket/x.tar", "an address of a kind that is not read"),
        ("emoji://train", "an address of a kind that is not read"),
        ("memory://x.tar::file:///x.tar", "chains addresses"),
        ("https://host/x.tar,pipe:touch owned", "commands are never run"),
        ("https://host/*.tar", "no list of its files; write a range such as {000..013}, or a list"),
        ("https://host/{a,b}/[0-9].tar?signature=secret", "https://host/a/[0-9].tar is a glob"),
        ("https://user:secret@host/x.tar", "passwords do not belong in addresses"),
        ("https:///x.tar", "it names no server"),
        ("https://host:port/x.tar", "it is no web address"),
        ("https://host/a b.tar", "is no address"),
        ("https://host/a\r\nHost: other/b.tar", "is no address"),
        ("https://host/folder/", "names no file"),
        ("https://host/x.tar.gz", "is compressed"),
        ("https://host/{0..9999999999}.tar", "100,000 is the limit"),
        ("https://host/x.tar,HTTPS://host/x.tar", "named twice"),
        ("memory://nowhere/*.tar", "no file matches 'memory://nowhere/*.tar'"),
        ("part-*.tgz", "no file matches 'part-*.tgz'; . holds other.tar, part-000.tar"),
        ("nowhere/*.tar", "the folder nowhere does not exist"),
        ("missing.tar", "there is no shard missing.tar"),
        ("part-{010..015}.tar", "4 of the 6 shards of 'part-{010..015}.tar' are missing"),
        (".", "'./*.tar'"),
        ("emojis:train", "did you mean 'emoji'?"),
        ("emoji:trian", "did you mean 'emoji:train'?"),
        ("emoji:", "has no split ''"),
        ("emoji", "needs a split"),
        ("part-{000..}.tar", "is no range"),
        ("part-{011..000}.tar", "runs backwards"),
        ("part-{0..9999999999}.tar", "100,000 is the limit"),
        ("part-{0..99999999999999999999999999}.tar", "100,000 shards is the limit"),
        ("{0..999}-{0..999}.tar", "100,000 is the limit"),
        ("a{{0..2}.tar", "unbalanced or nested braces"),
        ("other.tar,other.tar", "named twice"),
        ("other.tar,./other.tar", "named twice"),
        ("other.tar,,part-000.tar", "an empty shard name"),
        ("", "an empty shard name"),
    ],
)
def test_what_cannot_be_meant_ends_in_one_line_that_says_why(folder, spec, words):
    with pytest.raises(UserError) as error:
        resolve_shards([spec])
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "owned").exists()


def test_no_specs_at_all_is_a_mistake():
    with pytest.raises(UserError, match="no shards were named"):
        resolve_shards([])


def test_compressed_shards_are_refused(folder):
    (folder / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is compressed"):
        resolve_shards(["x.tar.gz"])


@given(st.integers(0, 1200), st.integers(0, 40), st.integers(1, 6))
def test_ranges_expand_as_braceexpand_does(first, more, width):
    pattern = f"a-{{{str(first).zfill(width)}..{str(first + more).zfill(width)}}}-{{x,y}}.tar"
    assert expand_braces(pattern) == list(braceexpand.braceexpand(pattern))


@given(st.text(alphabet="a{}.,0129:*/|[]", max_size=12))
def test_any_spec_that_names_nothing_is_a_user_error(spec):
    with pytest.raises(UserError) as error:
        resolve_shards([spec + "nothing-has-this-name"])
    assert "\n" not in str(error.value)
