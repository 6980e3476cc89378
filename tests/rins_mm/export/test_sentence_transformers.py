"""The folder that SentenceTransformer loads: ids, pixels and vectors, whatever stands beside a string."""

import exported
import pytest
import tiny
import torch
from PIL import Image

from data_pipelines.errors import UserError
from eval.model_names import load_named
from rins_mm.export.card import snippet_of
from rins_mm.export.formats import ExportJob
from rins_mm.models.image_tower import ImageTowerConfig

STRINGS = ["a red apple", "Dogs, CATS!", "", "words " * 30, "x"]
PICTURES = [Image.fromarray(tiny.pixels(number, 20 + 13 * number, 60)) for number in range(3)]


@pytest.fixture(scope="module", params=["masked", "siglip"])
def case(request, tmp_path_factory):
    job = ExportJob(encoder=exported.encoder(padding=request.param), text_signature="AAB")
    folder = tmp_path_factory.mktemp("export") / "st"
    exported.write("sentence_transformers", job, folder)
    return job.encoder, folder, exported.consumer("sentence_transformers", folder)


def test_texts_and_pictures_have_the_encoders_vectors_at_any_batch(case):
    encoder, _, library = case
    assert library.token_ids(STRINGS) == encoder.tokenizer.encode(STRINGS)
    expected = encoder.encode_texts(STRINGS, "AAB")
    for size in (1, 2, 5):
        vectors = torch.as_tensor(library.text_vectors(STRINGS[:size]))
        torch.testing.assert_close(vectors, expected[:size], rtol=0, atol=2e-6)
    vectors = torch.as_tensor(library.picture_vectors(library.pixels(PICTURES)))
    torch.testing.assert_close(vectors, encoder.encode_images(PICTURES), rtol=0, atol=2e-6)


def test_the_snippet_of_the_card_runs_with_nothing_said_of_padding(case):
    encoder, folder, _ = case
    snippet = snippet_of((folder / "README.md").read_text()).replace("FOLDER", str(folder))
    assert "padding" not in snippet
    given = {"picture": PICTURES[1], "captions": STRINGS}
    exec(snippet, given)
    for name, expected in (
        ("text_vectors", encoder.encode_texts(STRINGS, "AAB")),
        ("image_vectors", encoder.encode_images([PICTURES[1]])),
    ):
        torch.testing.assert_close(torch.as_tensor(given[name]), expected, rtol=0, atol=2e-6)


def test_evaluation_reads_the_folder(case):
    encoder, folder, _ = case
    model = load_named(f"sentence_transformers:{folder}", "cpu")
    vectors = model.encode_texts(STRINGS, ["default"])["default"]
    expected = encoder.encode_texts(STRINGS, "AAB")
    torch.testing.assert_close(vectors, expected, rtol=0, atol=2e-6)


def test_a_tower_that_transformers_cannot_express_is_refused(tmp_path):
    stem = ImageTowerConfig(image_size=32, width=32, depth=2, num_heads=2, stem_channels=(16, 32))
    job = ExportJob(encoder=exported.encoder(stem), text_signature="AB")
    with pytest.raises(UserError, match=r"convolutional stem.*native, onnx or pt2"):
        exported.write("sentence_transformers", job, tmp_path / "st")
