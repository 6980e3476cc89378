import io
import json
import tarfile

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.expand import read_table
from data_pipelines.prepare import emoji_packages
from data_pipelines.prepare.emoji import main
from data_pipelines.prepare.emoji_families import (
    family_of_hexcode,
    merged_families,
    split_of_family,
)
from data_pipelines.prepare.emoji_packages import Concept, hexcode_of, unpacked_packages
from data_pipelines.prepare.emoji_pictures import encoded_picture
from data_pipelines.shard_writer import sha256_of_file

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
    '<rect x="10" y="10" width="52" height="52" fill="#{}"/></svg>'
)


def picture(colour, size=64, form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGBA", (size, size), colour).save(buffer, form)
    return buffer.getvalue()


def entry(hexcode, label, **more):
    return {"hexcode": hexcode, "label": label, "tags": [label.split()[0]], "group": 0, **more}


def extra(hexcode, annotation, subgroup):
    return {
        "hexcode": hexcode,
        "annotation": annotation,
        "tags": "one, two",
        "openmoji_tags": "two, three",
        "subgroups": subgroup,
        "group": "extras-openmoji",
    }


def write_all(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def packages(tmp_path):
    """A handful of emoji laid out like the five packages."""
    cook_dark = {"hexcode": "1F9D1-1F3FF-200D-1F373", "label": "cook: dark skin tone"}
    words = [
        entry("2764-FE0F", "red heart"),
        entry("1F9D1-200D-1F373", "cook", skins=[cook_dark]),
        entry("1F468-200D-1F373", "man cook"),
    ]
    german = [
        {**word, "label": "Koch: dunkel"} if "skins" not in word else {**word, "label": "Koch"}
        for word in words
    ]
    files = {
        "emoji-datasource-google": {
            "img/google/64/2764-fe0f.png": picture("red"),
            "img/google/64/1f9d1-200d-1f373.png": picture("blue"),
            "img/google/64/1f9d1-1f3ff-200d-1f373.png": picture("blue"),
        },
        "emoji-datasource-twitter": {"img/twitter/64/2764-fe0f.png": picture("red")},
        "openmoji": {
            "color/svg/2764.svg": SVG.format("f00"),
            "color/svg/E000.svg": SVG.format("0f0"),
            "color/svg/E001.svg": SVG.format("00f"),
            "data/openmoji.json": json.dumps(
                [extra("E000", "small pond", "nature"), extra("E001", "Some Brand", "brand")]
            ),
        },
        "lobehub-fluent-emoji-3d": {"assets/2764-fe0f.webp": picture("pink", 256, "WEBP")},
        "emojibase-data": {
            "en/data.json": json.dumps(words),
            "de/data.json": json.dumps(german),
            "meta/groups.json": json.dumps({"groups": {"0": "smileys-emotion"}}),
        },
    }
    versions = {name: version for name, version, _ in emoji_packages.PACKAGES.values()}
    for stem, content in files.items():
        name = stem.replace("lobehub-", "@lobehub/")
        folder = tmp_path / "packages" / f"{stem}-{versions[name]}" / "package"
        described = json.dumps({"name": name, "version": versions[name]})
        write_all(folder, {**content, "package.json": described})
    return tmp_path / "packages"


def build(packages, out):
    main(["--packages", str(packages), "--out", str(out)])
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_two_builds_give_the_same_bytes(packages, tmp_path, capsys):
    first = build(packages, tmp_path / "one")
    assert build(packages, tmp_path / "two") == first
    assert sorted(first) == ["NOTICE", "captions.json.xz", "manifest.json", "pictures.bin"]
    assert "left out: 1 openmoji pictures" in capsys.readouterr().out


def test_identical_pictures_are_stored_once_and_brands_not_at_all(packages, tmp_path):
    build(packages, tmp_path / "pack")
    table = read_table(tmp_path / "pack")
    counts = json.loads((tmp_path / "pack" / "manifest.json").read_bytes())["counts"]
    # Two red hearts are equal, and so are the two cooks; the third heart, the pond, the fluent one.
    assert counts["all_samples"] == 7
    assert counts["distinct_pictures"] == len(table["pictures"]) == 5
    labels = {concept["label"] for concept in table["concepts"]}
    assert labels == {"red heart", "cook", "cook: dark skin tone", "small pond"}
    pond = next(c for c in table["concepts"] if c["label"] == "small pond")
    assert table["bases"][pond["base"]]["keywords"] == ["one", "two", "three"]


def test_a_pack_is_not_overwritten_unasked(packages, tmp_path):
    build(packages, tmp_path / "pack")
    with pytest.raises(UserError, match="--overwrite"):
        build(packages, tmp_path / "pack")
    main(["--packages", str(packages), "--out", str(tmp_path / "pack"), "--overwrite"])


def test_transparent_pixels_become_white(tmp_path):
    half = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 32, 64))
    half.save(tmp_path / "half.png")
    with Image.open(io.BytesIO(encoded_picture(tmp_path / "half.png"))) as image:
        assert min(image.getpixel((60, 32))) > 250
        assert image.getpixel((4, 32))[2] > 240


def test_pictures_that_are_not_square_keep_their_form(tmp_path):
    Image.new("RGBA", (64, 128), "black").save(tmp_path / "tall.png")
    with Image.open(io.BytesIO(encoded_picture(tmp_path / "tall.png"))) as image:
        assert image.size == (64, 64)
        assert min(image.getpixel((2, 32))) > 250
        assert max(image.getpixel((32, 2))) < 5


@pytest.mark.parametrize(
    ("name", "hexcode"),
    [
        ("00a9-fe0f", "00A9"),
        ("a9-fe0f", "00A9"),
        ("39-fe0f-20e3", "0039-20E3"),
        ("1f3f4-e0067_e0062_e0065_e006e_e0067", "1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"),
        ("1f3f4-e0067-e0062-e007f", "1F3F4-E0067-E0062-E007F"),
    ],
)
def test_different_spellings_of_a_file_mean_one_hexcode(name, hexcode):
    assert hexcode_of(name) == hexcode


@pytest.mark.parametrize(
    ("hexcode", "family"),
    [
        ("1F468-1F3FB-200D-1F373", "1f9d1-1f373"),
        ("1F9D1-200D-1F373", "1f9d1-1f373"),
        ("1F3C3-200D-2640-200D-27A1", "1f3c3"),
        ("1F3FB", "component"),
        ("1F1E9-1F1EA", "1f1e9-1f1ea"),
    ],
)
def test_gender_direction_and_skin_do_not_make_a_family(hexcode, family):
    assert family_of_hexcode(hexcode) == family


def concept(hexcode, label, base=None, **locales):
    return Concept(
        hexcode=hexcode,
        base=base or hexcode,
        label=label,
        locales={"en": label, **locales},
        positive_key=label,
        keywords=(),
        group="objects",
    )


def test_families_that_share_words_a_base_or_a_picture_become_one():
    concepts = [
        concept("A1", "brain"),
        concept("B2", "Brain!"),
        concept("C3", "lion", vi="sư tử"),
        concept("D4", "Leo", vi="sư tử"),
        concept("E5", "handshake"),
        concept("F6", "light handshake", base="E5"),
        concept("0A", "Norway"),
        concept("0B", "Svalbard"),
        concept("0C", "alone"),
    ]
    families = merged_families({c.hexcode: c for c in concepts}, [["0A", "0B"]])
    assert families == {
        "A1": "a1",
        "B2": "a1",
        "C3": "c3",
        "D4": "c3",
        "E5": "e5",
        "F6": "e5",
        "0A": "0a",
        "0B": "0a",
        "0C": "0c",
    }


def test_about_a_tenth_of_the_families_is_held_out_for_test_and_a_twentieth_for_val():
    splits = [split_of_family(f"{number:x}") for number in range(4000)]
    assert 0.08 < splits.count("test") / 4000 < 0.12
    assert 0.035 < splits.count("val") / 4000 < 0.065


def test_tarballs_are_checked_against_their_pinned_hashes(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_packages, "PACKAGES", {"words": emoji_packages.PACKAGES["words"]})
    name, version, _ = emoji_packages.PACKAGES["words"]
    tarball = tmp_path / "tarballs" / f"{name}-{version}.tgz"
    tarball.parent.mkdir()
    with tarfile.open(tarball, "w:gz") as tar:
        tar.add(packages / f"{name}-{version}" / "package", "package")
    with pytest.raises(UserError, match="fetch it again"):
        unpacked_packages(tarball.parent, tmp_path / "working")
    pinned = {"words": (name, version, sha256_of_file(tarball))}
    monkeypatch.setattr(emoji_packages, "PACKAGES", pinned)
    folders = unpacked_packages(tarball.parent, tmp_path / "working")
    assert (folders["words"] / "en" / "data.json").is_file()


def test_missing_or_other_packages_are_named(packages, tmp_path):
    with pytest.raises(UserError, match="npm pack emoji-datasource-google@"):
        unpacked_packages(tmp_path, tmp_path / "working")
    described = next(packages.glob("openmoji-*/package/package.json"))
    described.write_text('{"name": "openmoji", "version": "1.0.0"}')
    with pytest.raises(UserError, match=r"is openmoji 1\.0\.0; openmoji 17\.0\.0 is wanted"):
        unpacked_packages(packages, tmp_path / "working")
