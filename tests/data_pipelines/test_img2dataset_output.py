"""Folders as img2dataset and DataComp's scripts leave them are data sets as they are."""

import io
import json
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from data_pipelines.captions import CaptionConfig, caption_of
from data_pipelines.errors import UserError
from data_pipelines.keys import main as keys
from data_pipelines.lint import bad_rows
from data_pipelines.manifest import open_dataset
from data_pipelines.samples import decoded_sample, sample_name
from data_pipelines.subset import main as subset
from data_pipelines.subset import read_uids


def jpeg(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (30 + number, 20), (number, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Two shards of five; in each the third download failed and left a row of the table only."""
    for shard in range(2):
        rows = []
        with tarfile.open(tmp_path / f"{shard:05d}.tar", "w") as tar:
            for number in range(5):
                key = f"{shard:05d}{number:04d}"
                failed = number == 2
                row = {
                    "url": f"http://example.invalid/{key}.jpg",
                    "caption": f"a picture, number {number}",
                    "uid": f"{shard * 5 + number:032x}",
                    "key": key,
                    "status": "failed_to_download" if failed else "success",
                    "error_message": "HTTP Error 404: Not Found" if failed else None,
                    "width": None if failed else 30 + number,
                    "height": None if failed else 20,
                    "exif": "{}",
                    "sha256": "0" * 64,
                }
                rows.append(row)
                if failed:
                    continue
                parts = {
                    "jpg": jpeg(number),
                    "json": json.dumps(row, indent=4).encode(),
                    "txt": row["caption"].encode(),
                    "npy": b"features of somebody",
                }
                for kind, content in parts.items():
                    member = tarfile.TarInfo(f"{key}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, tmp_path / f"{shard:05d}.parquet")
        stats = {"count": 5, "successes": 4, "failed_to_download": 1, "status_dict": {"success": 4}}
        (tmp_path / f"{shard:05d}_stats.json").write_text(json.dumps(stats))
    return tmp_path


@pytest.mark.parametrize("name", ["*.tar", "{00000..00001}.tar"])
def test_its_shards_are_read_as_they_are(folder, name):
    dataset = open_dataset([f"{folder}/{name}"])
    assert dataset.shard_sizes == (4, 4)
    assert [shard.skipped for shard in dataset.shards] == [{"other part: npy": 4}] * 2
    for config in (CaptionConfig(), CaptionConfig(kind="template", templates=("{caption}",))):
        assert list(bad_rows(dataset, config)) == []
        for number in range(8):
            pixels, record = decoded_sample(dataset, number)
            _, key = sample_name(dataset, number)
            assert pixels.shape == (20, 30 + int(key[-1]), 3)
            assert caption_of(record, config, 0) == f"a picture, number {key[-1]}"


def test_the_tools_read_them(folder, capsys):
    keys([f"{folder}/*.tar", "--batch-size", "8", "--json"])
    (batch,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(set(batch["keys"])) == 8
    assert batch["bad"] == {}


def written_uids(path, numbers, kind):
    """The uids of these numbers as a file of DataComp's form, or as a text."""
    uids = [f"{number:032x}" for number in numbers]
    if kind == "npy":
        pairs = [(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids]
        np.save(path / "uids.npy", np.array(pairs, dtype=np.dtype("u8,u8")))
    else:
        (path / "uids.txt").write_text("\n".join(uids))
    return path / f"uids.{kind}"


@pytest.mark.parametrize("kind", ["npy", "txt"])
def test_a_subset_by_uids_leaves_exactly_its_samples(folder, kind, capsys):
    # Number 2 was never downloaded, and 77 is no sample of this data set.
    uids = written_uids(folder, [0, 2, 4, 8, 77, 2**100], kind)
    subset([f"{folder}/*.tar", "--uids", str(uids), "--out", f"{folder}/denied.jsonl"])
    assert "3 of 8 samples are kept, of 6 uids" in capsys.readouterr().out
    kept = open_dataset([f"{folder}/*.tar"], [f"{folder}/denied.jsonl"])
    assert [sample_name(kept, number)[1] for number in range(kept.num_samples)] == [
        "000000000", "000000004", "000010003",
    ]  # fmt: skip


def test_what_is_no_list_or_table_of_uids_is_one_line(folder):
    (folder / "bad.txt").write_text("zz")
    np.save(folder / "bad.npy", np.arange(3))
    (folder / "empty.npy").write_bytes(b"")
    for name in ("bad.txt", "bad.npy", "empty.npy"):
        with pytest.raises(UserError, match=f"{name} is no list of uids"):
            read_uids(folder / name)
    uids = str(written_uids(folder, [0], "txt"))
    command = [f"{folder}/*.tar", "--uids", uids, "--out", f"{folder}/denied.jsonl"]
    (folder / "00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"00001.parquet has no columns key and uid"):
        subset(command)
    (folder / "00001.parquet").unlink()
    with pytest.raises(UserError, match=r"there is no .*00001.parquet"):
        subset(command)
    assert not (folder / "denied.jsonl").exists()


def test_uids_of_spaces_and_lists_that_are_holes_are_refused(folder):
    np.lib.format.open_memmap(folder / "holes.npy", mode="w+", dtype="u8,u8", shape=(2**23,))
    with pytest.raises(UserError, match="bytes are on the disk"):
        read_uids(folder / "holes.npy")
    table = {"key": ["000000000", "000000001"], "uid": ["ab" * 8 + " " * 16] * 2}
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "00000.parquet")
    uids = str(written_uids(folder, [0], "txt"))
    with pytest.raises(UserError, match="is no uid of 32 hexadecimal digits"):
        subset([f"{folder}/*.tar", "--uids", uids, "--out", f"{folder}/denied.jsonl"])
