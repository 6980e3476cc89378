import hashlib
import io
import tarfile

import pytest

from data_pipelines.shard_writer import write_shard

SAMPLES = [
    ("cat-1", {"webp": b"RIFFcat", "json": b"{}", "txt": b"a cat"}),
    ("dog-2", {"webp": b"RIFFdog" * 300, "json": b'{"label": "dog"}', "txt": b"a dog"}),
]


def test_the_bytes_are_those_of_webdatasets_writer(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    written = write_shard(tmp_path / "a.tar", SAMPLES)
    stream = io.BytesIO()
    with webdataset.TarWriter(stream, encoder=False, mtime=0, user="", group="") as writer:
        for key, parts in SAMPLES:
            writer.write({"__key__": key, **parts})
    assert written.path.read_bytes() == stream.getvalue()


def test_what_comes_back_describes_the_file(tmp_path):
    written = write_shard(tmp_path / "a.tar", iter(SAMPLES))
    content = (tmp_path / "a.tar").read_bytes()
    assert written.num_samples == 2
    assert written.num_bytes == len(content)
    assert written.sha256 == hashlib.sha256(content).hexdigest()


def test_an_interrupted_shard_leaves_nothing_behind(tmp_path):
    def broken():
        yield SAMPLES[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_sample_stand_together_and_sorted(tmp_path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames()[:4] == ["cat-1.json", "cat-1.txt", "cat-1.webp", "dog-2.json"]
