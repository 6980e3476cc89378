"""A model whose strings are padded wrongly cannot be had: what users of other libraries did, tried on each.

SigLIP's text towers read the last place of a row of fixed length. Padded to the longest string of a
batch, or with the padding masked, they gave 10 where 80 per cent were right, without any error.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import foreign_models
import numpy as np
import onnxruntime
import open_clip
import pytest
import tiny
import torch
import transformers
from foreign_models import CONTEXT, WORDS
from torch.nn.functional import normalize

from eval.encoder import DEFAULT_VARIANT
from eval.hugging_face_model import HuggingFaceModel
from eval.model_names import load_named
from eval.onnx_model import OnnxModel
from eval.open_clip_model import OpenClipModel
from eval.sentence_transformers_model import SentenceTransformersModel
from rins_mm.models.signatures import expand

STRINGS = [*WORDS, "", "A Photo, of A CAT!"]
SHORT = ["cat", "A Photo, of A CAT!"]
"""Shorter than the context all of them, so that there is something to pad."""
FULL = {"padding": "max_length", "max_length": CONTEXT, "truncation": True}

Way = Callable[[Path, list[str]], torch.Tensor]
"""From a model's folder and strings to vectors, with the library alone."""


def texts_of_hugging_face(masked: bool = False, side: str = "right", **settings) -> Way:
    def encode(folder, strings):
        model = transformers.AutoModel.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        tokenizer.padding_side = side
        encoded = tokenizer(strings, return_tensors="pt", **settings)
        given = dict(encoded) if masked else {"input_ids": encoded["input_ids"]}
        with torch.no_grad():
            return model.get_text_features(**given).pooler_output

    return encode


def one_by_one(way: Way) -> Way:
    return lambda folder, strings: torch.cat([way(folder, [string]) for string in strings])


def lowered(way: Way) -> Way:
    return lambda folder, strings: way(folder, [string.lower() for string in strings])


def texts_of_open_clip(folder, strings):
    model = open_clip.create_model(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(strings)
    with torch.no_grad():
        return model.eval().encode_text(tokens)


def open_clip_padded_to_the_longest(folder, strings):
    model = open_clip.create_model(f"local-dir:{folder}")
    outer = open_clip.get_tokenizer(f"local-dir:{folder}")
    cleaned = [outer.clean_fn(string) for string in strings]
    tokens = outer.tokenizer(cleaned, padding=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval().encode_text(tokens)


def texts_of_sentence_transformers(**settings) -> Way:
    def encode(folder, strings):
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        return model.encode(strings, convert_to_tensor=True, **settings).clone()

    return encode


def texts_of_graph(length: int | None) -> Way:
    """`length` None pads to the longest, as tokenizers do by default."""

    def encode(folder, strings):
        rows = foreign_models.tiny_tokenizer().encode(strings)
        width = length or max(map(len, rows))
        feed = {
            "ids": np.array([row + [0] * (width - len(row)) for row in rows]),
            "mask": np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        }
        session = onnxruntime.InferenceSession(folder / "text.onnx")
        names = [given.name for given in session.get_inputs()]
        return torch.from_numpy(session.run(None, {name: feed[name] for name in names})[0])

    return encode


@dataclass(frozen=True, kw_only=True)
class Kind:
    prefix: str
    build: Callable[[Path], Path]
    right: Way
    wrong: dict[str, Way] = field(default_factory=dict)


SIGLIP_MISTAKES = {
    "padded to the longest": texts_of_hugging_face(padding=True),
    "not padded": one_by_one(texts_of_hugging_face()),
    "attention mask given": texts_of_hugging_face(masked=True, **FULL),
    "padded on the left": texts_of_hugging_face(side="left", **FULL),
}
ST_FULL = {"processing_kwargs": {"text": FULL | {"return_attention_mask": False}}}


def st_of(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
    return lambda folder: foreign_models.sentence_transformer(
        folder / "st", build(folder / "hugging_face")
    )


KINDS = {
    "hf SigLIP": Kind(
        prefix="hf:",
        build=foreign_models.siglip,
        right=texts_of_hugging_face(**FULL),
        wrong=SIGLIP_MISTAKES,
    ),
    "hf SigLIP 2": Kind(
        prefix="hf:",
        build=foreign_models.siglip_2,
        right=lowered(texts_of_hugging_face(**FULL)),
        wrong=SIGLIP_MISTAKES | {"capitals kept": texts_of_hugging_face(**FULL)},
    ),
    "hf NaFlex": Kind(
        prefix="hf:",
        build=foreign_models.naflex,
        right=texts_of_hugging_face(**FULL),
        wrong=SIGLIP_MISTAKES,
    ),
    "hf CLIP": Kind(
        prefix="hf:",
        build=foreign_models.clip,
        right=texts_of_hugging_face(masked=True, padding=True),
        wrong={"padded on the left": texts_of_hugging_face(side="left", **FULL)},
    ),
    "open_clip SigLIP": Kind(
        prefix="open_clip:local-dir:",
        build=foreign_models.open_clip_siglip,
        right=texts_of_open_clip,
        wrong={"padded to the longest": open_clip_padded_to_the_longest},
    ),
    "open_clip CLIP": Kind(
        prefix="open_clip:local-dir:",
        build=foreign_models.open_clip_clip,
        right=texts_of_open_clip,
    ),
    "sentence-transformers SigLIP": Kind(
        prefix="sentence_transformers:",
        build=st_of(foreign_models.siglip),
        right=texts_of_sentence_transformers(**ST_FULL),
        wrong={"its default": texts_of_sentence_transformers()},
    ),
    "sentence-transformers SigLIP 2": Kind(
        prefix="sentence_transformers:",
        build=st_of(foreign_models.siglip_2),
        right=lowered(texts_of_sentence_transformers(**ST_FULL)),
        wrong={"its default": texts_of_sentence_transformers()},
    ),
    "sentence-transformers CLIP": Kind(
        prefix="sentence_transformers:",
        build=st_of(foreign_models.clip),
        right=texts_of_sentence_transformers(),
    ),
    "ONNX": Kind(
        prefix="onnx:",
        build=foreign_models.onnx_pair,
        right=texts_of_graph(CONTEXT),
        wrong={"padded to the longest": texts_of_graph(None)},
    ),
    "ONNX with a mask": Kind(
        prefix="onnx:",
        build=lambda folder: foreign_models.onnx_pair(folder, with_mask=True),
        right=texts_of_graph(CONTEXT),
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    """The kind, its folder, and the encoder that load_named makes of it."""
    kind = KINDS[request.param]
    folder = kind.build(tmp_path_factory.mktemp("model") / "model")
    return kind, folder, load_named(f"{kind.prefix}{folder}", "cpu")


def vectors(encoder, strings) -> torch.Tensor:
    return encoder.encode_texts(strings, [DEFAULT_VARIANT])[DEFAULT_VARIANT]


def differ(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((normalize(first, dim=-1) - normalize(second, dim=-1)).abs().max())


def test_a_string_has_one_vector_whatever_stands_beside_it(model):
    _, _, encoder = model
    together = vectors(encoder, STRINGS)
    alone = torch.cat([vectors(encoder, [string]) for string in STRINGS])
    assert differ(together, alone) < 1e-5
    assert differ(together, vectors(encoder, STRINGS[::-1]).flip(0)) < 1e-5
    beside_short = torch.cat([vectors(encoder, [string] + [""] * 63)[:1] for string in STRINGS])
    assert differ(together, beside_short) < 1e-5


def test_it_is_the_vector_of_the_librarys_own_right_way(model):
    kind, folder, encoder = model
    assert differ(vectors(encoder, STRINGS), kind.right(folder, STRINGS)) < 1e-5


def test_what_users_of_peers_did_gives_other_vectors(model):
    kind, folder, encoder = model
    right = vectors(encoder, SHORT)
    assert differ(right, kind.right(folder, SHORT)) < 1e-5
    for mistake, wrong in kind.wrong.items():
        assert differ(right, wrong(folder, SHORT)) > 1e-2, mistake


def test_capitals_change_nothing(model):
    _, _, encoder = model
    upper = [string.upper() for string in STRINGS]
    assert differ(vectors(encoder, STRINGS), vectors(encoder, upper)) < 1e-5


def test_strings_of_any_length_are_cut_to_the_context(model):
    _, _, encoder = model
    long = " ".join(WORDS * 5)
    assert differ(vectors(encoder, [long]), vectors(encoder, [f"{long} cat"])) < 1e-5


def test_clip_is_not_computed_behind_the_end_of_the_longest_string(tmp_path):
    folder = foreign_models.open_clip_clip(tmp_path / "model")
    model = OpenClipModel("local-dir", folder, "cpu")
    widths = []
    model._model.token_embedding.register_forward_hook(
        lambda _, given, __: widths.append(given[0].shape[1])
    )
    model.encode_texts(["cat", "a cat"])
    model.encode_texts([" ".join(["cat"] * 50)])
    # A begin and an end token, and one for each word.
    assert widths == [4, CONTEXT]


@pytest.fixture(scope="module", params=["siglip", "masked"])
def own_model(request):
    """A model of this project whose text tower attends to padding, or does not."""
    encoder = tiny.encoder()
    tower = encoder.model.text_tower
    tower.config = dataclasses.replace(tower.config, padding=request.param)
    return encoder


def test_a_model_of_this_project_gives_a_string_one_vector_too(own_model):
    together = own_model.encode_texts(STRINGS)
    alone = torch.cat([own_model.encode_texts([string]) for string in STRINGS])
    assert differ(together, alone) < 1e-5
    assert differ(together, own_model.encode_texts([string.upper() for string in STRINGS])) < 1e-5


def test_a_model_of_this_project_cannot_be_padded_to_the_longest(own_model):
    tower = own_model.model.text_tower
    right = own_model.encode_texts(SHORT)
    rows = own_model.tokenizer.encode(SHORT)
    longest = max(map(len, rows))
    padded = [row + [tower.pad_token] * (longest - len(row)) for row in rows]
    offsets = torch.arange(len(rows) + 1, dtype=torch.int32) * longest
    tokens = torch.tensor(padded, dtype=torch.int32).flatten()
    with torch.no_grad():
        wrong = tower(tokens, offsets, expand(own_model.signature))
    if tower.config.padding == "siglip":
        # Padding that somebody has added already is the padding that the tower adds itself.
        assert differ(right, wrong) < 1e-5
    else:
        assert differ(right, wrong) > 1e-2


def test_nothing_about_padding_can_be_said_from_outside():
    assert list(inspect.signature(load_named).parameters) == ["name", "device"]
    for kind in (HuggingFaceModel, OnnxModel, SentenceTransformersModel):
        assert list(inspect.signature(kind).parameters) == ["folder", "device"]
    assert list(inspect.signature(OpenClipModel).parameters) == ["model_name", "place", "device"]
