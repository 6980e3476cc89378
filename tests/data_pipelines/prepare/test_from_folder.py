import csv
import io
import json
import os
import resource
import tarfile
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.captions import CaptionConfig, caption_of
from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from data_pipelines.prepare.caption_tables import Columns, read_rows
from data_pipelines.prepare.folder_items import key_of
from data_pipelines.prepare.from_folder import main, split_of_picture
from data_pipelines.samples import decoded_sample


def picture(colour, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    (folder / "red.png").write_bytes(picture("red"))
    (folder / "sub" / "blue.jpeg").write_bytes(picture("blue", "JPEG"))
    (folder / "sub" / "green.jpg").write_bytes(picture("green", "WEBP"))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:1500])
    (folder / "old.bmp").write_bytes(picture("white", "BMP"))
    (folder / "extra.png").write_bytes(picture("grey"))
    return folder


GOOD = [
    {"file": "red.png", "caption": "a red square", "keywords": ["red", "square"]},
    {"file": "red.png", "caption": "something red", "keywords": []},
    {"file": "sub/blue.jpeg", "caption": " blue \n"},
    {"file": "sub/green.jpg", "caption": "grün"},
]
BAD = [
    ({"file": "red.png", "caption": "a red square"}, "duplicate"),
    ({"file": "cut.png", "caption": "cut"}, "truncated picture"),
    ({"file": "old.bmp", "caption": "old"}, "unsupported format"),
    ({"file": "nowhere.png", "caption": "nothing"}, "missing file"),
    ({"file": "sub", "caption": "a folder"}, "missing file"),
    ({"file": "red.png", "caption": "  "}, "empty caption"),
    ({"file": "red.png", "caption": 7}, "empty caption"),
    ({"file": "red.png", "caption": "x" * 30_000}, "caption too long"),
    ({"caption": "no file"}, "no file named"),
    ({"file": "../beside.png", "caption": "not from here"}, "outside the folder"),
    ({"file": "/etc/passwd", "caption": "nor from there"}, "outside the folder"),
    ({"file": "x\0y.png", "caption": "nul"}, "missing file"),
]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments):
    main([str(argument) for argument in arguments])


def samples(folder, split="train"):
    found = defaultdict(dict)
    for shard in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                found[key][suffix] = tar.extractfile(member).read()
    return dict(found)


def test_good_rows_become_samples_and_bad_rows_are_listed_by_cause(pictures, tmp_path, capsys):
    table = write_jsonl(tmp_path / "t.jsonl", [*GOOD, *(row for row, _ in BAD)])
    with table.open("a") as file:
        file.write("{broken\n")
    run(pictures, "--captions", table, "--out", tmp_path / "out", "--samples-per-shard", 3)
    assert [parts["txt"].decode() for parts in samples(tmp_path / "out").values()] == [
        "a red square",
        "something red",
        "blue",
        "grün",
    ]
    rejected = [
        json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()
    ]
    causes = [cause for _, cause in BAD] + ["bad json line"]
    assert [row["cause"] for row in rejected] == causes
    assert [row["row"] for row in rejected] == list(range(5, 18))
    described = json.loads((tmp_path / "out/dataset.json").read_text())
    assert described["count"] == 17
    assert described["successes"] == 4
    assert described["status_dict"]["empty caption"] == 2
    assert described["pictures_not_named"] == 1
    assert [shard["num_samples"] for shard in described["shards"]["train"]] == [3, 1]
    assert "left out: 3 x missing file" in capsys.readouterr().out


def test_the_loaders_reader_gets_pictures_and_captions_back(pictures, tmp_path):
    table = write_jsonl(tmp_path / "t.jsonl", GOOD)
    run(pictures, "--captions", table, "--out", tmp_path / "out")
    dataset = open_dataset([str(tmp_path / "out/train-*.tar")])
    assert dataset.num_samples == 4
    pixels, record = decoded_sample(dataset, 0)
    np.testing.assert_array_equal(pixels, np.full((6, 8, 3), (255, 0, 0), np.uint8))
    assert record["keywords"] == ["red", "square"]
    assert caption_of(record, CaptionConfig(kind="text"), 0) == "a red square"
    assert decoded_sample(dataset, 1)[1]["positive_key"] == record["positive_key"]
    assert decoded_sample(dataset, 2)[1]["positive_key"] != record["positive_key"]


def test_picture_bytes_are_stored_as_they_are_under_the_suffix_of_their_content(pictures, tmp_path):
    table = write_jsonl(tmp_path / "t.jsonl", GOOD)
    run(pictures, "--captions", table, "--out", tmp_path / "out")
    stored = list(samples(tmp_path / "out").values())
    assert stored[0]["png"] == (pictures / "red.png").read_bytes()
    assert stored[2]["jpg"] == (pictures / "sub/blue.jpeg").read_bytes()
    assert stored[3]["webp"] == (pictures / "sub/green.jpg").read_bytes()


def write_table(path, form):
    rows = [{**row, "keywords": row.get("keywords", [])} for row in GOOD]
    if form == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t" if form == "tsv" else ",")
        writer.writeheader()
        writer.writerows({**row, "keywords": ", ".join(row["keywords"])} for row in rows)


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_every_form_of_table_gives_the_same_shards(pictures, tmp_path, form):
    run(pictures, "--captions", write_jsonl(tmp_path / "t.jsonl", GOOD), "--out", tmp_path / "a")
    write_table(tmp_path / f"t.{form}", form)
    run(pictures, "--captions", tmp_path / f"t.{form}", "--out", tmp_path / "b")
    assert (tmp_path / "a/train-00000.tar").read_bytes() == (
        tmp_path / "b/train-00000.tar"
    ).read_bytes()


def test_columns_can_have_any_names(pictures, tmp_path):
    rows = [{"where": row["file"], "what": row["caption"], "tags": "a,b"} for row in GOOD]
    table = write_jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match=r"columns are where, what, tags.*--columns\.file"):
        run(pictures, "--captions", table, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    names = ("--columns.file", "where", "--columns.caption", "what")
    run(pictures, "--captions", table, "--out", tmp_path / "out", *names)
    first = next(iter(samples(tmp_path / "out").values()))
    assert json.loads(first["json"])["keywords"] == ["a", "b"]


def test_directories_are_classes_and_underscores_are_spaces(tmp_path):
    for name in ("golden_retriever", "cat"):
        (tmp_path / "pictures" / name / "deep").mkdir(parents=True)
        (tmp_path / "pictures" / name / "deep" / "1.png").write_bytes(picture("red"))
        (tmp_path / "pictures" / name / "2.gif").write_bytes(picture("red", "GIF"))
        (tmp_path / "pictures" / name / "notes.txt").write_text("not a picture")
    (tmp_path / "pictures" / "loose.png").write_bytes(picture("red"))
    run(tmp_path / "pictures", "--out", tmp_path / "out")
    records = [json.loads(parts["json"]) for parts in samples(tmp_path / "out").values()]
    assert {record["label"] for record in records} == {"golden retriever", "cat"}
    assert all(record["label"] == record["positive_key"] == record["group"] for record in records)
    described = json.loads((tmp_path / "out/dataset.json").read_text())
    assert described["status_dict"] == {
        "success": 2,
        "unsupported format": 2,
        "no class directory": 1,
    }


def test_equal_pictures_fall_on_one_side_of_the_split(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for shade in range(100):
            (folder / name / f"{shade}.png").write_bytes(picture((shade, 0, 0)))
    run(folder, "--out", tmp_path / "out", "--val-fraction", 0.3)
    sides = [
        {parts["png"] for parts in samples(tmp_path / "out", split).values()}
        for split in ("train", "val")
    ]
    assert not sides[0] & sides[1]
    assert len(sides[0]) + len(sides[1]) == 100
    assert 15 < len(sides[1]) < 45


def test_the_share_of_val_is_the_one_that_was_asked_for():
    splits = [split_of_picture(f"{number:x}", 0.1) for number in range(4000)]
    assert 0.08 < splits.count("val") / 4000 < 0.12
    assert split_of_picture("anything", 0.0) == "train"


def test_shards_of_an_earlier_run_are_kept_unless_overwriting(pictures, tmp_path):
    table = write_jsonl(tmp_path / "t.jsonl", GOOD)
    out = tmp_path / "out"
    run(pictures, "--captions", table, "--out", out, "--samples-per-shard", 1)
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UserError, match="--overwrite"):
        run(pictures, "--captions", table, "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    run(pictures, "--captions", table, "--out", out, "--overwrite")
    names = {path.name for path in out.iterdir()}
    assert names == {"train-00000.tar", "dataset.json", "rejected.jsonl", "notes.txt"}


def test_nothing_usable_is_a_mistake_that_points_to_the_causes(pictures, tmp_path):
    table = write_jsonl(tmp_path / "t.jsonl", [BAD[1][0]])
    with pytest.raises(UserError, match=r"rejected\.jsonl"):
        run(pictures, "--captions", table, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no folder"),
        (["empty"], "holds no pictures"),
        (["pictures/sub"], "lie in no class directories"),
        (["pictures", "--captions", "nowhere.csv"], "there is no table"),
        (["pictures", "--captions", "table.xlsx"], "is no table that can be read"),
        (["pictures", "--captions", "empty.csv"], "has no rows"),
        (["pictures", "--captions", "latin.csv"], "is not UTF-8"),
        (["pictures", "--captions", "broken.parquet"], "is no Parquet file"),
        (["nowhere", "--captions", "empty.csv"], "there is no folder"),
        (["pictures", "--val-fraction", "1.5"], "--val-fraction is 1.5"),
        (["pictures", "--samples-per-shard", "0"], "--samples-per-shard is 0"),
    ],
)
def test_mistakes_end_in_one_line(pictures, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("file,caption\n")
    (tmp_path / "latin.csv").write_bytes("file,caption\nred.png,grün\n".encode("latin1"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError) as error:
        run(*arguments, "--out", "out")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@given(st.text(st.characters(codec=None), max_size=120), st.integers(1, 10_000))
def test_any_path_gives_a_key_that_a_shard_can_hold(name, number):
    key = key_of(name, number)
    assert key.isascii()
    assert "." not in key
    assert "/" not in key
    assert 10 <= len(key) <= 90


def test_paths_that_read_alike_have_different_keys():
    keys = {key_of(name, 1) for name in ("a/b.png", "a-b.png", "a_b.jpg", "a/b.jpg", "a b.png")}
    assert len(keys) == 5


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_line_without_end_is_not_read_to_its_end(tmp_path, form):
    table = tmp_path / f"a.{form}"
    table.write_text("file,caption\n")
    os.truncate(table, 6 * 10**8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="has a line of more than 16,777,216 characters"):
        list(read_rows(table, Columns()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
