"""Weights of transformers' SigLIP and SigLIP 2 give their vectors here."""

import json

import pytest
import torch
import transformers
from peer_weights import (
    PATCH,
    SIZES,
    SMALL,
    assert_same_vectors,
    encoder,
    hugging_face,
    ids,
    pictures,
    pixels,
    tokenizer,
    train_config,
)

from data_pipelines.errors import UserError
from rins_mm.weights.hugging_face import from_hugging_face


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_a_siglip_folder_gives_the_vectors_of_transformers(tmp_path, size):
    rows = ids(tokenizer(tmp_path))
    theirs = hugging_face(tmp_path, size, any_shape=False)
    expected = theirs(input_ids=rows, pixel_values=pixels(size))
    ours = encoder(train_config(tmp_path, size, model=f"hf:{tmp_path}"))
    assert_same_vectors(ours, size, expected.image_embeds, expected.text_embeds)
    assert torch.equal(ours.model.logit_scale, theirs.logit_scale)
    assert torch.equal(ours.model.logit_bias, theirs.logit_bias)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_a_siglip_2_for_any_shape_gives_its_vectors_of_square_pictures(tmp_path, size):
    rows = ids(tokenizer(tmp_path))
    theirs = hugging_face(tmp_path, size, any_shape=True)
    processor = transformers.Siglip2ImageProcessor(
        patch_size=PATCH, max_num_patches=(size.side // PATCH) ** 2
    )
    images = processor(images=pictures(size), return_tensors="pt")
    expected = theirs(input_ids=rows, **images)
    ours = encoder(train_config(tmp_path, size, model=f"hf:{tmp_path}"))
    assert_same_vectors(ours, size, expected.image_embeds, expected.text_embeds)


@torch.no_grad()
def test_each_tower_can_be_taken_alone(tmp_path):
    rows = ids(tokenizer(tmp_path))
    theirs = hugging_face(tmp_path, SMALL, any_shape=False)
    expected = theirs(input_ids=rows, pixel_values=pixels(SMALL))
    both = encoder(train_config(tmp_path, SMALL, image=f"hf:{tmp_path}", text=f"hf:{tmp_path}"))
    assert_same_vectors(both, SMALL, expected.image_embeds, expected.text_embeds)
    one = encoder(train_config(tmp_path, SMALL, image=f"hf:{tmp_path}"))
    fresh = encoder(train_config(tmp_path, SMALL))
    assert torch.equal(one.encode_images(pictures(SMALL)), both.encode_images(pictures(SMALL)))
    assert torch.equal(one.encode_texts(["sun"]), fresh.encode_texts(["sun"]))
    assert torch.equal(one.model.logit_scale, fresh.model.logit_scale)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text_config": {"num_attention_heads": 4}}, r"text\.num_heads 4, .* --text\.num-heads 4"),
        ({"vision_config": {"hidden_act": "gelu"}}, r"image\.gelu 'exact', .* --image\.gelu exact"),
        ({"vision_config": {"layer_norm_eps": 1e-5}}, r"image\.norm_epsilon 1e-05"),
        ({"model_type": "clip"}, r"type 'clip'; give a folder with a SigLIP"),
    ],
)
def test_what_no_weight_shows_is_compared(tmp_path, changes, told):
    tokenizer(tmp_path)
    hugging_face(tmp_path, SMALL, any_shape=False)
    described = json.loads((tmp_path / "config.json").read_text())
    for name, value in changes.items():
        described[name] = described[name] | value if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=told):
        encoder(train_config(tmp_path, SMALL, model=f"hf:{tmp_path}"))


def test_colours_of_another_preparation_are_refused(tmp_path):
    tokenizer(tmp_path)
    hugging_face(tmp_path, SMALL, any_shape=False)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.6]}')
    with pytest.raises(UserError, match=r"image\.mean .* --image\.mean 0\.4 0\.5 0\.6"):
        encoder(train_config(tmp_path, SMALL, model=f"hf:{tmp_path}"))


def test_weights_in_several_files_are_read_through_their_index(tmp_path):
    tokenizer(tmp_path)
    theirs = hugging_face(tmp_path, SMALL, any_shape=False)
    whole = encoder(train_config(tmp_path, SMALL, model=f"hf:{tmp_path}"))
    (tmp_path / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path, max_shard_size="50KB")
    assert not (tmp_path / "model.safetensors").exists()
    parts = encoder(train_config(tmp_path, SMALL, model=f"hf:{tmp_path}"))
    assert parts.fingerprint == whole.fingerprint


def test_names_that_nobody_knows_stay_as_they_are():
    strange = {"vision_model.something": torch.zeros(2)}
    assert from_hugging_face(strange, patch_size=16).keys() == strange.keys()
