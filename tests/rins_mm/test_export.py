"""The exported folder: the same encoder bit for bit, nothing that could run, nothing damaged unnoticed."""

import contextlib
import json
import pickletools
import resource
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

import rins_mm
from data_pipelines.errors import UserError
from rins_mm.checkpoint import write_manifest
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.__main__ import main
from rins_mm.export.native import write_native

STRINGS = ["a red apple", "someone riding a bicycle", ""]
FILES = {"MANIFEST.json", "encoder.json", "model.safetensors", "tokenizer.json", "tokenizer.model"}
BESIDE = {"README.md", "parity.json", "parity.safetensors"}
"""What the command writes besides."""
PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".joblib"}


@pytest.fixture(scope="module")
def encoder() -> SigLIPEncoder:
    return tiny.encoder()


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exports") / "tiny"
    write_native(encoder, path)
    return path


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """An export that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_is_loaded_is_what_was_written_bit_for_bit(encoder, folder):
    loaded = rins_mm.load(folder)
    pictures = [tiny.pixels(0), Image.fromarray(tiny.pixels(1))]
    assert loaded.encode_images(pictures).equal(encoder.encode_images(pictures))
    for signature in ("AB", "AAB", "AAAB", None):
        expected = encoder.encode_texts(STRINGS, signature)
        assert loaded.encode_texts(STRINGS, signature).equal(expected)
    assert loaded.fingerprint == encoder.fingerprint
    assert (loaded.name, loaded.signature) == (encoder.name, encoder.signature)


def test_weights_that_cannot_be_guessed_from_a_seed_survive_too(encoder, tmp_path):
    changed = tiny.encoder()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in changed.model.state_dict().values():
            tensor += torch.randn(tensor.shape, generator=generator) * 0.02
    write_native(changed, tmp_path / "changed")
    loaded = rins_mm.load(tmp_path / "changed")
    assert loaded.encode_texts(STRINGS).equal(changed.encode_texts(STRINGS))
    assert not loaded.encode_texts(STRINGS).allclose(encoder.encode_texts(STRINGS))


def test_the_folder_holds_what_it_says_and_each_weight_once(encoder, folder):
    assert {path.name for path in folder.iterdir()} == FILES
    tensors = load_file(folder / "model.safetensors")
    assert sum(t.numel() for t in tensors.values()) == sum(
        p.numel() for p in encoder.model.parameters()
    )
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert set(manifest["files"]) == FILES - {"MANIFEST.json"}
    assert manifest["fingerprint"] == encoder.fingerprint
    description = json.loads((folder / "encoder.json").read_text())
    assert description["signature"] == "A^3B"
    assert description["embedding_width"] == 32


def test_everybody_who_may_read_one_file_may_read_the_weights(folder):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_nothing_in_the_folder_is_a_pickle(folder):
    for path in folder.iterdir():
        assert path.suffix not in PICKLE_SUFFIXES
        content = path.read_bytes()
        # A zip is what torch.save writes; 0x80 and a version open a pickle of protocol 2 and later.
        assert not content.startswith((b"PK", *(bytes([0x80, version]) for version in range(2, 6))))
        with pytest.raises(Exception):  # noqa: B017, PT011 - it fails in many ways
            list(pickletools.genops(content))


@pytest.mark.parametrize("name", sorted(FILES - {"MANIFEST.json"}))
def test_one_flipped_bit_is_noticed_and_the_file_named(copied, name):
    for place in (0, (copied / name).stat().st_size // 2, -1):
        change(copied / name, place)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            rins_mm.load(copied)
        change(copied / name, place)
    rins_mm.load(copied)


def test_a_damaged_manifest_ends_in_a_clear_mistake_or_in_the_right_weights(copied):
    manifest = copied / "MANIFEST.json"
    for place in range(0, manifest.stat().st_size, 3):
        change(manifest, place)
        # A fact that loading does not need may have changed.
        with contextlib.suppress(UserError):
            assert rins_mm.load(copied).signature == "A^3B"
        change(manifest, place)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(copied, name):
    (copied / name).unlink()
    message = "neither a run nor an export" if name == "encoder.json" else name
    with pytest.raises(UserError, match=message):
        rins_mm.load(copied)


@pytest.mark.parametrize(
    "description",
    [
        "[]",
        "{}",
        "no json",
        '{"format_version": 2, "name": "x"}',
        '{"format_version": 1, "name": "x"}',
    ],
)
def test_a_description_that_was_sealed_but_makes_no_sense_is_a_mistake(copied, description):
    (copied / "encoder.json").write_text(description)
    (copied / "MANIFEST.json").unlink()
    write_manifest(copied, {})
    with pytest.raises(UserError, match=str(copied)):
        rins_mm.load(copied)


@pytest.mark.parametrize(
    ("tower", "setting", "value"),
    [
        ("text", "depth", 10**9), ("text", "width", 10**9), ("text", "mlp_width", 10**9), ("text", "num_heads", -2),
        ("text", "context_length", 10**12), ("image", "depth", 10**9), ("image", "width", 10**7),
        ("image", "image_size", 10**9), ("image", "patch_size", 0), ("image", "num_heads", 0),
        ("image", "stem_channels", [10**9]), ("image", "name", "eva_giant_patch14_560"),
    ],
)  # fmt: skip
def test_a_description_of_any_size_is_refused_before_anything_of_that_size_is_made(
    copied, tower, setting, value
):
    path = copied / "encoder.json"
    described = json.loads(path.read_text())
    described[tower][setting] = value
    path.write_text(json.dumps(described))
    (copied / "MANIFEST.json").unlink()
    write_manifest(copied, {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"no model that can be built|are of another model"):
        rins_mm.load(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_weights_of_another_model_are_refused(copied):
    description = json.loads((copied / "encoder.json").read_text())
    description["text"]["mlp_width"] = 128
    (copied / "encoder.json").write_text(json.dumps(description))
    (copied / "MANIFEST.json").unlink()
    write_manifest(copied, {})
    with pytest.raises(UserError, match="of another model"):
        rins_mm.load(copied)


def test_an_existing_folder_is_replaced_only_when_asked_and_only_if_it_is_an_export(
    encoder, copied, tmp_path
):
    (copied / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="--overwrite"):
        write_native(encoder, copied)
    assert (copied / "mine.txt").exists()
    write_native(encoder, copied, overwrite=True)
    assert {path.name for path in copied.iterdir()} == FILES

    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is no export"):
        write_native(encoder, home, overwrite=True)
    assert (home / "mine.txt").read_text() == "precious"


def test_an_export_that_fails_leaves_nothing_behind(encoder, copied, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = (copied / "model.safetensors").read_bytes()
    monkeypatch.setattr("rins_mm.export.native.save_tensors", full)
    with pytest.raises(OSError, match="No space"):
        write_native(encoder, copied, overwrite=True)
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]
    assert (copied / "model.safetensors").read_bytes() == before


def test_the_command_says_what_it_wrote_and_what_to_do_with_it(encoder, folder, tmp_path, capsys):
    out = tmp_path / "new" / "export"
    main([str(folder), "--out", str(out), "--no-verify"])
    assert {path.name for path in out.iterdir()} == FILES | BESIDE
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed
    assert f"python -m rins_mm.search {out}" in printed
    assert rins_mm.load(out).fingerprint == encoder.fingerprint
    with pytest.raises(UserError, match="--overwrite"):
        main([str(folder), "--out", str(out)])
    main([str(folder), "--out", str(out), "--overwrite", "--no-verify"])


def test_a_name_that_a_terminal_would_obey_is_told_in_words(encoder, tmp_path, capsys):
    named = SigLIPEncoder(encoder.model, encoder.tokenizer, name="a\x1b[2J\u202e")
    write_native(named, tmp_path / "named")
    main([str(tmp_path / "named"), "--out", str(tmp_path / "out"), "--no-verify"])
    assert ": a\ufffd[2J\ufffd, signature" in capsys.readouterr().out
