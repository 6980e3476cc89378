"""The public model: pictures and strings in, unit vectors out, nothing to get wrong."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import rins_mm
from data_pipelines.errors import UserError
from eval.encoder import DualEncoder
from rins_mm.encoder import SigLIPEncoder
from rins_mm.models.draws import RecursionConfig

STRINGS = ["a red apple", "Someone riding a bicycle!", "", "an animal that swims, of all things"]
SIGNATURES = ["AB", "AAB", "AAAB"]


@pytest.fixture(scope="module")
def encoder() -> SigLIPEncoder:
    return tiny.encoder()


def test_vectors_have_unit_norm(encoder):
    for vectors in (
        encoder.encode_texts(STRINGS),
        encoder.encode_images([tiny.pixels(n) for n in range(3)]),
    ):
        assert vectors.shape[1] == 32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_one_pass_at_several_depths_equals_a_pass_at_each_bit_for_bit(encoder):
    together = encoder.encode_texts_at(STRINGS, SIGNATURES)
    assert list(together) == SIGNATURES
    for signature in SIGNATURES:
        assert together[signature].equal(encoder.encode_texts(STRINGS, signature=signature))
    assert not together["AB"].allclose(together["AAAB"])


def test_depths_beyond_the_trained_one_run_each_round_once_and_the_last_group_once_per_exit(
    encoder, monkeypatch
):
    tower = encoder.model.text_tower
    ran = []
    run_call = tower.blocks.run_call

    def noted(letter, running, *arguments):
        ran.append(letter)
        return run_call(letter, running, *arguments)

    monkeypatch.setattr(tower.blocks, "run_call", noted)
    at = encoder.encode_texts_at(STRINGS, [*SIGNATURES, "A^5B"])
    assert (ran.count("A"), ran.count("B")) == (5, 4)
    deeper = encoder.encode_texts(STRINGS, signature="AAAAAB")
    assert at["A^5B"].equal(deeper)
    assert not deeper.allclose(at["AAAB"])
    torch.testing.assert_close(deeper.norm(dim=1), torch.ones(len(STRINGS)))


def test_texts_are_encoded_at_the_trained_depth_unless_told_otherwise(encoder):
    assert encoder.signature == "A^3B"
    assert encoder.encode_texts(STRINGS).equal(encoder.encode_texts(STRINGS, "AAAB"))


def test_a_depth_named_twice_is_returned_once(encoder):
    twice = encoder.encode_texts_at(STRINGS, ["AB", "AAB", "AB"])
    assert {name: len(rows) for name, rows in twice.items()} == {"AB": 4, "AAB": 4}


def test_a_vector_does_not_depend_on_its_neighbours_or_on_how_many_there_are(encoder):
    strings = [f"{number} {'apples ' * (number % 9)}" for number in range(150)]
    alone = torch.cat([encoder.encode_texts([string]) for string in strings[::30]])
    torch.testing.assert_close(encoder.encode_texts(strings)[::30], alone)
    pictures = [tiny.pixels(number) for number in range(130)]
    alone = torch.cat([encoder.encode_images([picture]) for picture in pictures[::30]])
    torch.testing.assert_close(encoder.encode_images(pictures)[::30], alone)


def test_case_and_punctuation_are_the_encoders_business(encoder):
    first, second = encoder.encode_texts(["A red, RED apple!", "a red red apple"])
    assert first.equal(second)


def test_a_caption_longer_than_the_context_is_cut(encoder):
    assert encoder.encode_texts(["many words " * 500]).isfinite().all()


def test_a_picture_is_the_same_as_image_as_array_and_as_file(encoder, tmp_path):
    picture = tiny.pixels(1)
    Image.fromarray(picture).save(tmp_path / "a.png")
    forms = [
        picture,
        Image.fromarray(picture),
        Image.fromarray(picture).convert("RGBA"),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
    ]
    vectors = encoder.encode_images(forms)
    for vector in vectors[1:]:
        assert vector.equal(vectors[0])


def test_read_only_and_mirrored_arrays_are_pictures_too(encoder):
    picture = tiny.pixels(2)
    read_only = np.asarray(Image.fromarray(picture))
    assert not read_only.flags.writeable
    mirrored = picture[:, ::-1]
    vectors = encoder.encode_images([picture, read_only, mirrored, mirrored.copy()])
    assert vectors[0].equal(vectors[1])
    assert vectors[2].equal(vectors[3])


def test_nothing_in_gives_no_rows(encoder):
    assert encoder.encode_images([]).shape == (0, 32)
    assert encoder.as_dual_encoder().encode_images([], ["AB"])["AB"].shape == (0, 32)
    assert encoder.encode_texts([]).shape == (0, 32)
    assert {s: v.shape for s, v in encoder.encode_texts_at([], ["AB", "AAB"]).items()} == {
        "AB": (0, 32),
        "AAB": (0, 32),
    }


def test_one_string_is_not_a_list_of_strings(encoder):
    with pytest.raises(TypeError, match="list of strings"):
        encoder.encode_texts("string")


# Not a Path: the annotations are checked while the tests run, and a Path is no sequence at all.
@pytest.mark.parametrize("picture", ["apple.png"])
def test_one_picture_is_not_a_list_of_pictures(encoder, picture):
    with pytest.raises(TypeError, match="list of pictures"):
        encoder.encode_images(picture)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "[4, 4, 4]"),
        (np.zeros((4, 4), dtype=np.uint8), "[4, 4]"),
    ],
)
def test_an_array_that_is_no_rgb_picture_is_a_mistake(encoder, picture, words):
    with pytest.raises(UserError) as caught:
        encoder.encode_images([picture])
    assert words in str(caught.value)
    assert "uint8 RGB" in str(caught.value)


def test_a_file_that_is_no_picture_is_named(encoder, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for name in ("a.png", "missing.png"):
        with pytest.raises(UserError, match=name):
            encoder.encode_images([tmp_path / name])


@pytest.mark.parametrize("signature", ["", "ABC", "AXB", "BA^"])
def test_a_depth_that_the_tower_cannot_run_is_a_mistake(encoder, signature):
    with pytest.raises(UserError):
        encoder.encode_texts(STRINGS, signature)


def test_the_fingerprint_follows_weights_configuration_and_tokenizer():
    def fingerprint(change=lambda encoder: None, **image_settings):
        encoder = tiny.encoder(**image_settings)
        change(encoder)
        return encoder.fingerprint

    @torch.no_grad()
    def nudge(encoder):
        encoder.model.logit_bias += 1e-6

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(nudge), fingerprint(mean=(0.4, 0.5, 0.5))}) == 3


def test_a_tower_with_counters_among_its_buffers_has_a_fingerprint():
    names = dict.fromkeys(("patch_size", "width", "depth", "num_heads"))
    encoder = tiny.encoder(name="resnet10t", **names)
    assert any(tensor.ndim == 0 for tensor in encoder.model.state_dict().values())
    assert len(encoder.fingerprint) == 64


def test_the_form_that_eval_scores_has_signatures_for_variants(encoder):
    dual = encoder.as_dual_encoder()
    assert isinstance(dual, DualEncoder)
    assert (dual.name, dual.fingerprint) == (encoder.name, encoder.fingerprint)
    vectors = dual.encode_texts(STRINGS, ["AB", "AAB", "default"])
    assert vectors["AAB"].equal(encoder.encode_texts(STRINGS, "AAB"))
    assert vectors["default"].equal(encoder.encode_texts(STRINGS))
    pictures = [tiny.pixels(number) for number in range(3)]
    vectors = dual.encode_images(pictures, ["AAB", "default"])
    assert list(vectors) == ["AAB", "default"]
    assert vectors["AAB"].equal(encoder.encode_images(pictures, "AAB"))
    assert vectors["default"].equal(encoder.encode_images(pictures))


def test_what_is_given_at_once_to_the_form_that_eval_scores_runs_at_once(encoder):
    batches = []
    towers = {
        "pictures": encoder.model.image_tower.stack,
        "strings": encoder.model.text_tower.blocks,
    }
    for name, stack in towers.items():
        stack[0].register_forward_hook(lambda _, given, __, name=name: batches.append(name))
    dual = encoder.as_dual_encoder()
    dual.encode_images([tiny.pixels(0)] * 150, ["AB"])
    dual.encode_texts(["a"] * 150, ["AB"])
    assert batches == ["pictures", "strings"]
    encoder.encode_images([tiny.pixels(0)] * 150)
    encoder.encode_texts(["a"] * 150, "AB")
    assert batches[2:] == ["pictures"] * 3 + ["strings"] * 3


def test_pictures_are_encoded_at_the_trained_depth_unless_told_otherwise():
    encoder = tiny.encoder(recursion=RecursionConfig(signature="A^2B"))
    pictures = [tiny.pixels(number) for number in range(3)]
    assert encoder.image_signature == "A^2B"
    together = encoder.encode_images_at(pictures, ["AB", "AAB", "AB"])
    assert list(together) == ["AB", "AAB"]
    assert encoder.encode_images(pictures).equal(together["AAB"])
    assert encoder.encode_images(pictures, "AB").equal(together["AB"])
    assert not together["AB"].allclose(together["AAB"])
    with pytest.raises(UserError, match="calls C"):
        encoder.encode_images(pictures, "ABC")


def test_a_folder_that_is_neither_run_nor_export_is_a_mistake(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="neither a run nor an export"):
            rins_mm.load(folder)


def test_a_run_without_a_checkpoint_is_a_mistake(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no checkpoint yet"):
        rins_mm.load(tmp_path)
