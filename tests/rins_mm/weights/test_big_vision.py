"""Trees of big_vision's parameters give the vectors that open_clip finds with them."""

import numpy as np
import pytest
import torch
from open_clip.convert import load_big_vision_weights
from peer_weights import (
    CONTEXT,
    PATCH,
    SIZES,
    SMALL,
    assert_same_vectors,
    encoder,
    ids,
    open_clip_model,
    pixels,
    tokenizer,
    train_config,
)

from data_pipelines.errors import UserError
from rins_mm.weights.big_vision import from_big_vision
from rins_mm.weights.sources import load

ATTENTION = "MultiHeadDotProductAttention_0/"


def block(numbers, width, heads):
    """One block of flax's transformer, by the names of its parameters."""
    head = width // heads
    shapes = {
        "LayerNorm_0/scale": (width,), "LayerNorm_0/bias": (width,),
        "LayerNorm_1/scale": (width,), "LayerNorm_1/bias": (width,),
        **attention_shapes(width, heads, head),
        **mlp_shapes(width),
    }  # fmt: skip
    return filled(numbers, shapes)


def attention_shapes(width, heads, head):
    shapes = {f"{ATTENTION}out/kernel": (heads, head, width), f"{ATTENTION}out/bias": (width,)}
    for name in ("query", "key", "value"):
        shapes |= {f"{ATTENTION}{name}/kernel": (width, heads, head)}
        shapes |= {f"{ATTENTION}{name}/bias": (heads, head)}
    return shapes


def mlp_shapes(width):
    return {
        "MlpBlock_0/Dense_0/kernel": (width, 4 * width), "MlpBlock_0/Dense_0/bias": (4 * width,),
        "MlpBlock_0/Dense_1/kernel": (4 * width, width), "MlpBlock_0/Dense_1/bias": (width,),
    }  # fmt: skip


def filled(numbers, shapes):
    return {name: numbers.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}


def blocks(numbers, size, prefix, *, scanned):
    made = [block(numbers, size.width, size.num_heads) for _ in range(size.depth)]
    if scanned:
        return {f"{prefix}encoderblock/{n}": np.stack([one[n] for one in made]) for n in made[0]}
    return {
        f"{prefix}encoderblock_{number}/{name}": array
        for number, one in enumerate(made)
        for name, array in one.items()
    }


def tree(size, vocab_size, *, scanned):
    """Both towers as big_vision's SigLIP names and shapes them."""
    numbers, width = np.random.default_rng(4), size.width
    attention = attention_shapes(width, size.num_heads, width // size.num_heads)
    pool = {
        "probe": (1, 1, width), "LayerNorm_0/scale": (width,), "LayerNorm_0/bias": (width,),
        **attention, **mlp_shapes(width),
    }  # fmt: skip
    outside = {
        "img/embedding/kernel": (PATCH, PATCH, 3, width), "img/embedding/bias": (width,),
        "img/pos_embedding": (1, (size.side // PATCH) ** 2, width),
        "img/Transformer/encoder_norm/scale": (width,), "img/Transformer/encoder_norm/bias": (width,),
        **{f"img/MAPHead_0/{name}": shape for name, shape in pool.items()},
        "txt/Embed_0/embedding": (vocab_size, width), "txt/pos_embedding": (1, CONTEXT, width),
        "txt/Encoder_0/encoder_norm/scale": (width,), "txt/Encoder_0/encoder_norm/bias": (width,),
        "txt/head/kernel": (width, width), "txt/head/bias": (width,), "t": (1,), "b": (1,),
    }  # fmt: skip
    found = filled(numbers, outside)
    found |= blocks(numbers, size, "img/Transformer/", scanned=scanned)
    found |= blocks(numbers, size, "txt/Encoder_0/", scanned=scanned)
    return {f"params/{name}": array for name, array in found.items()}


@pytest.mark.parametrize(("size", "scanned"), [(SIZES[0], False), (SIZES[1], True)])
@torch.no_grad()
def test_an_npz_gives_the_vectors_that_open_clip_finds_with_it(tmp_path, size, scanned):
    theirs_tokenizer = tokenizer(tmp_path)
    file = tmp_path / "siglip.npz"
    np.savez(file, **tree(size, theirs_tokenizer.vocab_size, scanned=scanned))
    theirs = open_clip_model(size, gelu="tanh")
    load_big_vision_weights(theirs, str(file))
    ours = encoder(train_config(tmp_path, size, model=f"big_vision:{file}"))
    expected = theirs.encode_image(pixels(size)), theirs.encode_text(ids(theirs_tokenizer))
    assert_same_vectors(ours, size, *expected)
    assert ours.model.logit_scale.item() == theirs.logit_scale.item()


def test_the_number_of_heads_is_read_from_the_shapes(tmp_path):
    vocab_size = tokenizer(tmp_path).vocab_size
    heads = SMALL.__class__(**vars(SMALL) | {"num_heads": 4})
    np.savez(tmp_path / "x.npz", **tree(heads, vocab_size, scanned=False))
    with pytest.raises(UserError, match=r"num_heads 4, and this run has 2; set --\w+\.num-heads 4"):
        encoder(train_config(tmp_path, SMALL, model=f"big_vision:{tmp_path / 'x.npz'}"))


def test_pickled_objects_in_an_npz_are_refused(tmp_path):
    tokenizer(tmp_path)
    np.savez(tmp_path / "x.npz", **{"params/t": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match=r"cannot read the arrays in .*plain numbers"):
        encoder(train_config(tmp_path, SMALL, model=f"big_vision:{tmp_path / 'x.npz'}"))


def test_bfloat16_which_numpy_does_not_know_is_read(tmp_path):
    from rins_mm.weights.files import read_weights

    values = torch.tensor([1.5, -2.0]).bfloat16()
    np.savez(tmp_path / "x.npz", t=values.view(torch.int16).numpy().view("V2"))
    found = from_big_vision(read_weights(tmp_path / "x.npz"))
    assert torch.equal(found["logit_scale"], values)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"img/Transformer/encoderblock/x": np.zeros((1_000_000, 0), "f4")}, "x in .* is empty"),
        ({"img/Transformer/encoderblock/x": np.zeros((1_001, 1), "f4")}, "1,001 blocks in 1,001"),
        (
            {f"img/Transformer/encoderblock/{n}": np.zeros((1_000, 1), "f4") for n in range(31)},
            "1,000 blocks in 31,000 tensors",
        ),
        ({"n" * 1_001: np.zeros(1, "f4")}, "a name of 1,001 characters"),
        # Where matrices are expected.
        ({"txt/pos_embedding": np.zeros(1, "f4")}, "is not what big_vision writes"),
        ({f"img/{ATTENTION}query/bias": np.zeros(1, "f4")}, "is not what big_vision writes"),
    ],
)
def test_arrays_that_no_tower_has_are_refused_in_a_line(tmp_path, arrays, told):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=told):
        load(f"big_vision:{tmp_path / 'x.npz'}")


def test_complex_numbers_in_an_npz_are_refused_by_their_kind(tmp_path):
    np.savez(tmp_path / "x.npz", t=np.zeros(1, "c8"))
    with pytest.raises(UserError, match=r"t in .* is of the kind complex64"):
        load(f"big_vision:{tmp_path / 'x.npz'}")
