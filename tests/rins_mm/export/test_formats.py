"""Each format in the library that reads it: the same ids, pixels and vectors, alone or in company."""

import exported
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

from data_pipelines.errors import UserError
from eval.model_names import load_named
from rins_mm.export.card import snippet_of
from rins_mm.export.formats import ExportJob
from rins_mm.export.golden import golden_picture, golden_strings
from rins_mm.models.image_tower import ImageTowerConfig

# All the odd ones, and some of the rest.
STRINGS = golden_strings()[::9]
PICTURES = [Image.fromarray(tiny.pixels(n, 20 + 13 * n, 60)) for n in range(9)]
PADDED = {"padding": "siglip", "gelu": "exact"}

CASES = {
    "native": ("native", {}),
    "hf, padding masked": ("hf", {}),
    "hf, padding seen": ("hf", PADDED),
    "open_clip": ("open_clip", {"image": exported.NAMED, "padding": "siglip"}),
    "timm": ("timm", {}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A format's name, the encoder, its folder, and the library that has read it."""
    name, settings = CASES[request.param]
    job = ExportJob(encoder=exported.encoder(**settings), text_signature="AAB")
    folder = exported.write(name, job, tmp_path_factory.mktemp("export") / name)
    return name, job.encoder, folder, exported.consumer(name, folder)


def test_a_caption_has_the_same_ids_and_vector(case):
    name, encoder, _, library = case
    if not hasattr(library, "text_vectors"):
        assert name == "timm"
        return
    alone = getattr(library, "left_alone", lambda strings: [True] * len(strings))(STRINGS)
    strings = [string for string, is_alone in zip(STRINGS, alone, strict=True) if is_alone]
    assert len(strings) > 100
    assert library.token_ids(strings) == encoder.tokenizer.encode(strings)
    expected = encoder.encode_texts(strings, "AAB")
    for size in (1, 7, len(strings)):
        vectors = exported.unit(library.text_vectors(strings[:size]))
        torch.testing.assert_close(vectors, expected[:size], rtol=0, atol=2e-6)
    assert not expected.allclose(encoder.encode_texts(strings, "AAAB"), atol=1e-3)


def test_a_picture_has_the_same_pixels_and_vector(case):
    name, encoder, _, library = case
    pixels = library.pixels(PICTURES)
    expected = encoder.encode_images(PICTURES)
    if name in ("native", "hf"):
        vectors = exported.unit(library.picture_vectors(pixels))
        torch.testing.assert_close(vectors, expected, rtol=0, atol=2e-6)
    for size in (1, 2):
        # Of the library's size already, so that only the tower and its normalisation count.
        square = [picture.resize(pixels.shape[2:]) for picture in PICTURES[:size]]
        vectors = exported.unit(library.picture_vectors(library.pixels(square)))
        torch.testing.assert_close(vectors, encoder.encode_images(square), rtol=0, atol=2e-6)


def test_the_snippet_of_the_card_runs_and_gives_the_encoders_vectors(case):
    name, encoder, folder, _ = case
    side = encoder.model.image_tower.config.image_size
    given = {
        "picture": PICTURES[0].resize((side, side)),
        "captions": ["a red apple", "Dogs, CATS!"],
    }
    exec(snippet_of((folder / "README.md").read_text()).replace("FOLDER", str(folder)), given)
    expected = encoder.encode_images([given["picture"]])
    torch.testing.assert_close(given["image_vectors"], expected, rtol=0, atol=2e-6)
    if name != "timm":
        # rins_mm's own folder keeps all depths, and is used at the trained one.
        depth = "A^3B" if name == "native" else "AAB"
        expected = encoder.encode_texts(given["captions"], depth)
        torch.testing.assert_close(given["text_vectors"], expected, rtol=0, atol=2e-6)


def test_evaluation_reads_the_folder_by_its_librarys_name(case):
    name, encoder, folder, _ = case
    if name not in ("hf", "open_clip"):
        return
    place = f"hf:{folder}" if name == "hf" else f"open_clip:local-dir:{folder}"
    strings = ["a red apple", "Dogs and CATS", ""]
    vectors = load_named(place, "cpu").encode_texts(strings, ["default"])["default"]
    expected = encoder.encode_texts(strings, "AAB")
    torch.testing.assert_close(vectors, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("dtype", "most"), [("bf16", 2e-2), ("fp16", 2e-3)])
@pytest.mark.parametrize("name", ["native", "hf", "timm"])
def test_weights_in_half_the_bytes_move_vectors_a_little(name, dtype, most, tmp_path):
    encoder = exported.encoder()
    job = ExportJob(encoder=encoder, text_signature="AB", dtype=dtype)
    folder = exported.write(name, job, tmp_path / name)
    kinds = {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}
    assert kinds == {job.torch_dtype}
    library = exported.consumer(name, folder)
    vectors = exported.unit(library.picture_vectors(library.pixels([PICTURES[0].resize((32, 32))])))
    differs = (vectors - encoder.encode_images([PICTURES[0].resize((32, 32))])).abs().max()
    assert 0 < differs < most


STEM = ImageTowerConfig(image_size=32, width=32, depth=2, num_heads=2, stem_channels=(16, 32))
CLASS_TOKEN = ImageTowerConfig(
    name="vit_tiny_patch16_224", image_size=32, patch_size=8, width=32, depth=2, num_heads=2
)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("hf", {"image": STEM}, "convolutional stem.*native, onnx or pt2"),
        ("timm", {"image": STEM}, "convolutional stem.*native, onnx or pt2"),
        ("hf", {"image": CLASS_TOKEN}, "class token.*native, onnx or pt2"),
        ("hf", {"image": exported.NAMED}, "SiglipVisionModel cannot express"),
        ("open_clip", {"image": exported.NAMED}, "sees? padding.*export hf"),
        ("open_clip", {"padding": "siglip"}, "img_size 32, patch_size 8.*export hf or timm"),
    ],
)
def test_a_tower_that_a_library_cannot_express_is_refused_with_the_formats_that_can(
    name, settings, reason, tmp_path
):
    job = ExportJob(encoder=exported.encoder(**settings), text_signature="AB")
    with pytest.raises(UserError, match=reason):
        exported.write(name, job, tmp_path / name)


def test_pictures_of_every_mode_are_golden():
    assert {golden_picture(number).mode for number in range(20)} == {
        "RGB", "L", "RGBA", "P", "LA", "1", "CMYK", "I;16",
    }  # fmt: skip
    assert {golden_picture(number).size for number in range(5)} == {
        (1, 1), (1, 500), (500, 1), (2, 3000), (3000, 3),
    }  # fmt: skip
