"""Weights of open_clip's SigLIP give its vectors here."""

import pytest
import torch
from peer_weights import (
    SIZES,
    SMALL,
    assert_same_vectors,
    encoder,
    ids,
    open_clip_config,
    open_clip_model,
    pixels,
    save_open_clip,
    tokenizer,
    train_config,
)

from data_pipelines.errors import UserError
from rins_mm.weights import sources


@pytest.fixture(autouse=True)
def _trunks_of_these_tests(monkeypatch):
    """The trunks here are smaller than the model that the configuration names."""
    monkeypatch.setattr(sources, "settings_of_backbone", lambda _: {"image.norm_epsilon": 1e-6})


@pytest.mark.parametrize(
    ("size", "gelu", "pickled"), [(SIZES[0], "exact", True), (SIZES[1], "tanh", False)]
)
@torch.no_grad()
def test_a_folder_of_open_clip_gives_its_vectors(tmp_path, size, gelu, pickled):
    rows = ids(tokenizer(tmp_path))
    theirs = open_clip_model(size, gelu=gelu)
    save_open_clip(tmp_path, theirs, open_clip_config(size, gelu), pickled=pickled)
    ours = encoder(train_config(tmp_path, size, gelu=gelu, model=f"open_clip:local-dir:{tmp_path}"))
    expected = theirs.encode_image(pixels(size)), theirs.encode_text(rows)
    assert_same_vectors(ours, size, *expected)
    assert ours.model.logit_scale.item() == theirs.logit_scale.item()
    assert ours.model.logit_bias.item() == theirs.logit_bias.item()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"no_causal_mask": False}, "no_causal_mask False, and SigLIP's True"),
        ({"pool_type": "argmax"}, "pool_type 'argmax'"),
        ({"hf_model_name": "roberta-base"}, "'roberta-base' of transformers"),
        ({"norm_kwargs": {}}, r"text\.norm_epsilon 1e-05"),
        ({"act_kwargs": {"approximate": "tanh"}}, r"text\.gelu 'tanh'.*--text\.gelu tanh"),
    ],
)
def test_a_text_tower_that_works_otherwise_is_refused(tmp_path, changes, told):
    tokenizer(tmp_path)
    config = open_clip_config(SMALL, "exact")
    config["text_cfg"] |= changes
    save_open_clip(tmp_path, torch.nn.Linear(2, 2), config, pickled=False)
    with pytest.raises(UserError, match=told):
        encoder(
            train_config(tmp_path, SMALL, gelu="exact", model=f"open_clip:local-dir:{tmp_path}")
        )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("open_clip:", "names no weights; write a folder of this project, timm:NAME:FILE"),
        ("open_clip:ViT-B-16-SigLIP", "names no weights; write open_clip:ViT-B-16-SigLIP:FILE"),
        ("open_clip:ViT-B-17:x.pt", "has no model 'ViT-B-17'"),
        ("open_clip:ViT-B-32:x.pt", "not of SigLIP's kind: its text tower has no_causal_mask"),
        ("open_clip:ViT-B-16-SigLIP:missing.pt", r"there is no file missing\.pt"),
        ("open_clip:local-dir:nowhere", r"nowhere has no open_clip_config\.json"),
        ("hf:nowhere", "of the type None"),
        ("big_vision:nowhere.npz", r"there is no file nowhere\.npz"),
        ("timm:vit_tinny:x.pt", "no model named 'vit_tinny'"),
        ("timm:vit_base_patch16_siglip_224", "no package is known with weights of"),
    ],
)
def test_names_that_lead_nowhere_are_refused_in_a_line(name, told):
    with pytest.raises(UserError, match=told):
        sources.load(name)
