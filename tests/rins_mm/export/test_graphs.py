"""ONNX graphs and programs of torch.export: the encoder's vectors at any batch, each weight once, nothing to run."""

import json
import subprocess
import sys
import zipfile

import exported
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import SentencePieceTokenizer, read_model
from eval.model_names import load_named
from rins_mm.config import EMOJI_TOKENIZER
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.card import snippet_of
from rins_mm.export.feeding import write_feeding
from rins_mm.export.formats import ExportJob
from rins_mm.export.graphs import StoredAs, TextGraph, graphs_of, unique_bytes
from rins_mm.export.int8 import quantise
from rins_mm.export.job import DTYPES
from rins_mm.export.onnx_graphs import onnx_graph
from rins_mm.export.onnx_weights import store_rounded, weight_bytes
from rins_mm.export.pt2 import pickles_in
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.signatures import expand

STRINGS = ["a red apple", "Dogs, CATS!", "", "words " * 30, "x", "two people on a bicycle", "ÄÖ"]
PICTURES = [tiny.pixels(number, 32, 32) for number in range(7)]
STEM = ImageTowerConfig(image_size=32, width=32, depth=2, num_heads=2, stem_channels=(16, 32))
JOINED = {"adapter": "linear", "image": STEM}
"""A recursive text tower with adapters that act, beside an image tower that no other library expresses."""


@pytest.fixture(scope="module")
def job() -> ExportJob:
    return ExportJob(encoder=exported.encoder(**JOINED), text_signature="AAB")


@pytest.fixture(scope="module", params=["onnx", "pt2"])
def written(request, job, tmp_path_factory):
    """A format's name, its folder, and the library that has read it."""
    name = request.param
    folder = exported.write(name, job, tmp_path_factory.mktemp("export") / name)
    return name, folder, exported.consumer(name, folder)


def test_captions_have_the_encoders_ids_and_vectors_at_any_batch(job, written):
    library = written[2]
    assert library.token_ids(STRINGS) == job.encoder.tokenizer.encode(STRINGS)
    strings = STRINGS * 10
    expected = job.encoder.encode_texts(strings, "AAB")
    for size in (1, 2, 7, 64):
        vectors = torch.as_tensor(library.text_vectors(strings[:size]))
        torch.testing.assert_close(vectors, expected[:size], rtol=0, atol=2e-6)
    # The empty string alone, a row of one token.
    alone = torch.as_tensor(library.text_vectors([""]))
    torch.testing.assert_close(alone, job.encoder.encode_texts([""], "AAB"), rtol=0, atol=2e-6)
    assert not expected.allclose(job.encoder.encode_texts(strings, "AAAB"), atol=1e-3)


def test_pictures_have_the_encoders_vectors_at_any_batch(job, written):
    library = written[2]
    pixels = library.pixels([Image.fromarray(picture) for picture in PICTURES])
    expected = job.encoder.encode_images(PICTURES)
    for size in (1, 2, 7):
        vectors = torch.as_tensor(library.picture_vectors(pixels[:size]))
        torch.testing.assert_close(vectors, expected[:size], rtol=0, atol=2e-6)


def test_the_snippet_of_the_card_gives_the_encoders_vectors(job, written):
    _, folder, _ = written
    given = {"picture": Image.fromarray(PICTURES[0]), "captions": STRINGS}
    exec(snippet_of((folder / "README.md").read_text()).replace("FOLDER", str(folder)), given)
    for name, expected in (
        ("image_vectors", job.encoder.encode_images(PICTURES[:1])),
        ("text_vectors", job.encoder.encode_texts(STRINGS, "AAB")),
    ):
        torch.testing.assert_close(torch.as_tensor(given[name]), expected, rtol=0, atol=2e-6)


def test_each_weight_is_stored_once_however_often_it_runs(job, written):
    name, folder, _ = written
    for part, graph in graphs_of(job.encoder, "AAB").items():
        if name == "onnx":
            stored = weight_bytes(onnx.load(folder / f"{part}.onnx"))
        else:
            with zipfile.ZipFile(folder / f"{part}.pt2") as archive:
                stored = sum(
                    member.file_size
                    for member in archive.infolist()
                    if "/data/weights/weight_" in member.filename
                )
        assert stored <= 1.02 * unique_bytes(graph)
        assert stored >= 0.95 * unique_bytes(graph)


def test_nothing_in_the_folder_is_a_pickle_or_tells_where_it_was_made(written):
    name, folder, _ = written
    for path in folder.iterdir():
        assert path.suffix in {".json", ".onnx", ".pt2", ".md", ".model"}
    if name == "pt2":
        assert not any(pickles_in(path) for path in folder.glob("*.pt2"))
        with zipfile.ZipFile(folder / "text.pt2") as archive:
            parts = [archive.read(member) for member in archive.namelist()]
    else:
        parts = [path.read_bytes() for path in folder.glob("*.onnx")]
    for part in parts:
        assert b".py" not in part and b"site-packages" not in part


def test_a_pickle_in_a_program_is_seen(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "linear.pt2")
    assert [name.split("/")[-2] for name in pickles_in(tmp_path / "linear.pt2")] == [
        "sample_inputs"
    ]


def test_evaluation_reads_the_onnx_folder_and_batch_axes_are_free(job, written):
    name, folder, _ = written
    if name != "onnx":
        return
    vectors = load_named(f"onnx:{folder}", "cpu").encode_texts(STRINGS, ["default"])["default"]
    expected = job.encoder.encode_texts(STRINGS, "AAB")
    torch.testing.assert_close(vectors, expected, rtol=0, atol=2e-6)
    session = onnxruntime.InferenceSession(folder / "text.onnx")
    assert [value.shape for value in session.get_inputs()] == [["batch", "length"]] * 2
    assert session.get_outputs()[0].shape == ["batch", 32]


CHILD = """
import json, sys
from pathlib import Path
import torch
folder = Path(sys.argv[1])
program = torch.export.load(folder / "text.pt2").module()
with torch.no_grad():
    vector = program(torch.tensor([[5, 6, 1]]), torch.ones(1, 3, dtype=torch.int64))
assert not {"rins_mm", "eval", "data_pipelines", "timm"} & sys.modules.keys()
print(json.dumps(vector[0].tolist()))
"""


@pytest.mark.slow
def test_a_program_runs_where_there_is_torch_and_nothing_else(job, written):
    name, folder, _ = written
    if name != "pt2":
        return
    command = [sys.executable, "-I", "-c", CHILD, str(folder)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    # By the tower itself, which lays captions out in another way.
    with torch.no_grad():
        tower = job.encoder.model.text_tower
        tokens, offsets = torch.tensor([5, 6, 1]).int(), torch.tensor([0, 3]).int()
        expected = tower(tokens, offsets, expand("AAB"))
    torch.testing.assert_close(
        torch.tensor([json.loads(child.stdout)]), exported.unit(expected), rtol=0, atol=2e-6
    )


def test_what_is_padded_changes_nothing_in_a_masked_tower(job):
    graph = graphs_of(job.encoder, "AAB")["text"]
    assert isinstance(graph, TextGraph)
    short, long = torch.tensor([[5, 6, 1]]), torch.tensor([[5, 6, 1, 9, 9, 9]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(graph(long, mask), graph(short, mask[:, :3]), rtol=0, atol=1e-6)


def test_a_tower_that_sees_padding_takes_ids_of_the_whole_context_alone():
    encoder = exported.encoder(padding="siglip")
    graph = graphs_of(encoder, "AAB")["text"]
    assert list(graph.examples) == ["ids"]
    rows = encoder.tokenizer.encode(STRINGS)
    pad = encoder.tokenizer.pad_token
    ids = torch.tensor([[*row, *[pad] * (16 - len(row))] for row in rows])
    with torch.no_grad():
        torch.testing.assert_close(
            graph(ids), encoder.encode_texts(STRINGS, "AAB"), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize(
    "recursion",
    [
        {"adapter": "lora", "adapter_rank": 2},
        {"adapter": "scale", "adapter_place": "after_stack", "adapter_index": "round"},
        {"kind": "latent", "signature": "AB^3C", "depth": 3},
    ],
    ids=["lora", "scale", "latent"],
)
def test_what_rounds_do_not_share_is_in_the_graph(recursion):
    encoder = exported.encoder(**recursion)
    for signature in ("AAAB", "AAB") if "kind" not in recursion else ("ABBBC", "ABBC"):
        graph = graphs_of(encoder, signature)["text"]
        (row,) = encoder.tokenizer.encode(["two people on a bicycle"])
        with torch.no_grad():
            vectors = graph(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.int64))
        expected = encoder.encode_texts(["two people on a bicycle"], signature)
        torch.testing.assert_close(vectors, expected, rtol=0, atol=2e-6)


def test_what_does_not_fit_into_one_file_is_refused(job, monkeypatch):
    monkeypatch.setattr("rins_mm.export.onnx_graphs.MAX_BYTES", 1000)
    with pytest.raises(UserError, match=r"one ONNX file holds.*pt2, hf or native"):
        onnx_graph(graphs_of(job.encoder, "AB")["image"], "image")


def test_a_tokenizer_that_others_cannot_read_is_refused(job, tmp_path):
    model = read_model(EMOJI_TOKENIZER)
    sorting = SentencePieceTokenizer(model, canonicalize="bag_of_words", context_length=16)
    encoder = SigLIPEncoder(job.encoder.model, sorting, name="bag@0")
    with pytest.raises(UserError, match=r"bag_of_words.*native"):
        write_feeding(ExportJob(encoder=encoder, text_signature="AB"), tmp_path, "onnx.json")


def test_weights_in_half_the_bytes_move_vectors_a_little(job, written):
    name, folder, _ = written
    if name != "onnx":
        return
    model = onnx.load(folder / "image.onnx")
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = graphs_of(job.encoder, "AB")["image"](torch.from_numpy(pixels)).numpy()
    for dtype, most in (("bf16", 2e-2), ("fp16", 2e-3)):
        rounded = onnx.ModelProto()
        rounded.CopyFrom(model)
        store_rounded(rounded, dtype)
        assert weight_bytes(rounded) < 0.55 * weight_bytes(model)
        session = onnxruntime.InferenceSession(rounded.SerializeToString())
        differs = np.abs(session.run(None, {"pixels": pixels})[0] - expected).max()
        assert 0 < differs < most
        # What pt2 stores.
        stored = StoredAs(graphs_of(job.encoder, "AB")["image"], DTYPES[dtype])
        assert unique_bytes(stored) == unique_bytes(graphs_of(job.encoder, "AB")["image"]) / 2
        with torch.no_grad():
            by_torch = stored(torch.from_numpy(pixels)).numpy()
        assert 0 < np.abs(by_torch - expected).max() < most


def test_a_graph_of_eight_bits_is_small_near_and_the_same_in_any_company(job, written, monkeypatch):
    # The matrices of so small a tower are worth no rounding.
    monkeypatch.setattr("rins_mm.export.int8.LEAST_WEIGHTS", 256)
    name, folder, _ = written
    if name != "onnx":
        return
    model = onnx.load(folder / "text.onnx")
    whole = weight_bytes(model)
    quantise(model)
    assert weight_bytes(model) < 0.35 * whole
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert "MatMulNBits" in {node.op_type for node in model.graph.node}
    rows = np.random.default_rng(0).integers(4, 3000, size=(9, 16))
    mask = (np.arange(16) < np.arange(4, 13)[:, None]).astype(np.int64)
    (together,) = session.run(None, {"ids": rows, "mask": mask})
    for number in range(len(rows)):
        alone = {"ids": rows[number : number + 1], "mask": mask[number : number + 1]}
        np.testing.assert_allclose(session.run(None, alone)[0][0], together[number], atol=1e-6)
    with torch.no_grad():
        graph = graphs_of(job.encoder, "AAB")["text"]
        expected = graph(torch.from_numpy(rows), torch.from_numpy(mask))
    differs = np.abs(together - expected.numpy()).max()
    assert 1e-5 < differs < 3e-2
