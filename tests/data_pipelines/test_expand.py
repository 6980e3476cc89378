"""The emoji pack as people get it: expanded into a cache folder and read back from the tars."""

import json
import multiprocessing
import os
import shutil
import string
import tarfile
from collections import Counter, defaultdict
from io import BytesIO

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.expand import PACK_SPLITS, PACKS_FOLDER, expand_pack, read_manifest
from data_pipelines.prepare.emoji_pack import StyledPicture, write_pack
from data_pipelines.prepare.emoji_packages import Concept
from data_pipelines.shard_writer import sha256_of_file
from data_pipelines.sources import resolve_shards

PACK = PACKS_FOLDER / "emoji"
STYLES = {"google", "twitter", "openmoji", "fluent"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINS_MM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def splits(cache):
    """Key, record, caption and picture of every sample of every split, read by tarfile alone."""
    found = {}
    for split in PACK_SPLITS["emoji"]:
        samples = defaultdict(dict)
        for shard in resolve_shards([f"emoji:{split}"]):
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, _, suffix = member.name.partition(".")
                    samples[key][suffix] = tar.extractfile(member).read()
        found[split] = {
            key: (json.loads(parts["json"]), parts["txt"].decode(), parts["webp"])
            for key, parts in samples.items()
        }
    return found


def captions_of(samples):
    """Every label, in any language, without case and punctuation."""
    dropped = str.maketrans("", "", string.punctuation)
    for record, text, _ in samples.values():
        for caption in (text, record["label"], record["positive_key"], *record["locales"].values()):
            yield " ".join(caption.translate(dropped).lower().split()) or caption


def test_the_counts_are_those_of_the_manifest(splits):
    counts = read_manifest(PACK)["counts"]
    assert {split: len(samples) for split, samples in splits.items()} == counts["samples"]
    assert counts["all_samples"] > 15_000
    pictures = {picture for samples in splits.values() for _, _, picture in samples.values()}
    assert len(pictures) == counts["distinct_pictures"]


def test_held_out_families_captions_and_pictures_never_occur_in_train(splits):
    seen = {**splits["train"], **splits["style"]}
    for held_out in ("val", "test"):
        others = {**seen, **splits["test" if held_out == "val" else "val"]}
        for aspect in (
            lambda samples: {record["family"] for record, _, _ in samples.values()},
            lambda samples: set(captions_of(samples)),
            lambda samples: {picture for _, _, picture in samples.values()},
        ):
            assert not aspect(splits[held_out]) & aspect(others)


def test_train_never_sees_a_fluent_picture_and_style_sees_nothing_else(splits):
    styles = {
        split: {record["style"] for record, _, _ in samples.values()}
        for split, samples in splits.items()
    }
    assert styles["train"] == STYLES - {"fluent"}
    assert styles["style"] == {"fluent"}
    assert styles["val"] == styles["test"] == STYLES
    pictures = {
        split: {picture for _, _, picture in samples.values()} for split, samples in splits.items()
    }
    assert not pictures["train"] & pictures["style"]
    families = {record["family"] for record, _, _ in splits["train"].values()}
    assert {record["family"] for record, _, _ in splits["style"].values()} <= families


def test_samples_carry_the_whole_schema(splits):
    for samples in splits.values():
        for key, (record, text, _) in samples.items():
            assert set(record) == {
                "label",
                "keywords",
                "locales",
                "group",
                "family",
                "style",
                "positive_key",
            }
            assert text == record["label"] == record["locales"]["en"]
            assert key.startswith(f"{record['style']}-")
            assert "skin tone" not in record["positive_key"] or record["group"] == "component"
            assert len(record["locales"]) == 28 or record["group"].startswith("extras-")
    record, _, _ = splits["style"]["fluent-1f436"]
    assert record["label"] == "dog face"
    assert record["locales"]["de"] == "Hundegesicht"


def test_every_picture_is_a_small_webp_without_transparency(splits):
    for samples in splits.values():
        for _, _, picture in list(samples.values())[:40]:
            with Image.open(BytesIO(picture)) as image:
                assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (64, 64))


def test_styles_are_mixed_within_every_train_shard(splits):
    keys = list(splits["train"])
    for start in range(0, len(keys), 1500):
        shares = Counter(key.partition("-")[0] for key in keys[start : start + 1500])
        assert min(shares.values()) > 0.2 * sum(shares.values())
    assert keys != sorted(keys)


def test_the_pack_is_small_and_names_its_licences():
    assert sum(path.stat().st_size for path in PACK.iterdir()) < 24_000_000
    notice = (PACK / "NOTICE").read_text()
    for words in ("Apache License 2.0", "Attribution 4.0", "ShareAlike 4.0", "MIT License"):
        assert words in notice


@pytest.fixture
def small_pack(tmp_path):
    """Forty emoji that nobody drew, in two styles."""
    concepts = {
        f"1F{number:03X}": Concept(
            hexcode=f"1F{number:03X}",
            base=f"1F{number:03X}",
            label=f"thing {number}",
            locales={"en": f"thing {number}", "de": f"Ding {number}"},
            positive_key=f"thing {number}",
            keywords=("thing",),
            group="objects",
        )
        for number in range(40)
    }
    pictures = [
        StyledPicture(style=style, hexcode=hexcode, webp=f"{style} {hexcode}".encode())
        for style in ("google", "fluent")
        for hexcode in concepts
    ]
    write_pack(tmp_path / "small", concepts, pictures)
    return tmp_path / "small"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def folders(cache):
    # Beside them lies the file by which processes take turns.
    return [path for path in cache.iterdir() if path.is_dir()]


def test_shards_that_were_damaged_later_are_made_again(small_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    folder = expand_pack(small_pack)
    before = contents(folder)
    (folder / "train-00000.tar").write_bytes(b"cut short")
    assert contents(expand_pack(small_pack)) == before
    (folder / "train-00000.tar").unlink()
    assert contents(expand_pack(small_pack)) == before
    assert folders(tmp_path / "cache") == [folder]


def _expand(folder_and_pack):
    folder, pack = folder_and_pack
    os.environ["RINS_MM_CACHE"] = str(folder)
    return expand_pack(pack)


def test_processes_that_expand_at_once_end_with_one_whole_folder(small_pack, tmp_path):
    cache = tmp_path / "cache"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.map(_expand, [(cache, small_pack)] * 6, chunksize=1)
    assert set(found) == set(folders(cache))
    described = read_manifest(small_pack)["shards"]
    assert {path.name: sha256_of_file(path) for path in found[0].iterdir()} == {
        shard["name"]: shard["sha256"] for shards in described.values() for shard in shards
    }


@pytest.mark.parametrize("name", ["pictures.bin", "captions.json.xz"])
def test_a_damaged_pack_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    pack = shutil.copytree(PACK, tmp_path / "emoji")
    content = bytearray((pack / name).read_bytes())
    content[len(content) // 2] ^= 1
    (pack / name).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        expand_pack(pack)
    assert folders(tmp_path / "cache") == []


def test_a_pack_of_another_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(UserError, match="format version 99"):
        expand_pack(tmp_path)
    with pytest.raises(UserError, match="no readable manifest"):
        expand_pack(tmp_path / "nowhere")


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set RINS_MM_CACHE"):
        expand_pack(PACK)
