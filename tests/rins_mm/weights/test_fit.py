"""What becomes of weights that do not all fit."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from peer_weights import (
    LARGER,
    SMALL,
    encoder,
    hugging_face,
    tokenizer,
    train_config,
)

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from data_pipelines.errors import UserError
from rins_mm.config import InitConfig, TokenizerConfig, build_tokenizer, initial_model
from rins_mm.initial_weights import begin_with, describe_init, record_fits
from rins_mm.models.draws import RecursionConfig
from rins_mm.recipes import load_config
from rins_mm.validation import validate
from rins_mm.weights.fit import fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("siglip")
    tokenizer(out)
    hugging_face(out, SMALL, any_shape=False)
    return out


@pytest.fixture
def config(folder):
    return train_config(folder, SMALL, model=f"hf:{folder}")


def begun(config):
    own = build_tokenizer(config)
    model = initial_model(config, pad_token=own.pad_token)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return begin_with(model, own, config), model.state_dict(), fresh


def test_positions_are_interpolated_to_the_size_of_pictures_and_captions(config):
    as_saved = encoder(config).model.state_dict()
    changed = replace(
        config,
        image=replace(config.image, image_size=64),
        text=replace(config.text, context_length=24),
    )
    (report,), found, _ = begun(changed)
    image, text = "image_tower.backbone.pos_embed", "text_tower.positions"
    assert report.resized == {image: ([1, 4, 32], [1, 16, 32]), text: ([16, 32], [24, 32])}
    assert report.left == []
    assert report.began_anew == ["text_tower.adapters.A.2.linear.weight"]
    assert report.matched + 3 == len(found)
    expected = resample_abs_pos_embed(as_saved[image], new_size=[4, 4], num_prefix_tokens=0)
    assert torch.equal(found[image], expected)
    lines = F.interpolate(as_saved[text].T[None], size=24, mode="linear")[0].T
    assert torch.equal(found[text], lines)
    # Ends stay ends.
    torch.testing.assert_close(found[text][0], as_saved[text][0])
    assert "resized image_tower.backbone.pos_embed from [1, 4, 32] to [1, 16, 32]" in report.line()


def test_a_deeper_tower_begins_anew_where_it_has_no_weights_only_when_told(config):
    deeper = replace(config, image=replace(config.image, depth=3))
    told = r"12 of the model's tensors are missing.*blocks\.2.*--init\.no-strict"
    with pytest.raises(UserError, match=told):
        begun(deeper)
    (report,), found, fresh = begun(replace(deeper, init=replace(config.init, strict=False)))
    block = [name for name in fresh if ".backbone.blocks.2." in name]
    assert sorted([*block, "text_tower.adapters.A.2.linear.weight"]) == report.began_anew
    assert all(torch.equal(found[name], fresh[name]) for name in block)
    name = "image_tower.backbone.blocks.1.attn.qkv.weight"
    assert not torch.equal(found[name], fresh[name])


def test_a_shallower_tower_leaves_weights_only_when_told(config):
    image = replace(config.image, depth=1, recursion=RecursionConfig(signature="A"))
    shallower = replace(config, image=image)
    with pytest.raises(UserError, match=r"12 of its own have no place.*blocks\.1"):
        begun(shallower)
    (report,), _, _ = begun(replace(shallower, init=replace(config.init, strict=False)))
    assert len(report.left) == 12
    assert all(name.startswith("image_tower.backbone.blocks.1.") for name in report.left)


def test_another_width_is_refused_and_told(config, folder):
    larger = train_config(folder, LARGER, model=config.init.model)
    larger = replace(larger, image=replace(larger.image, num_heads=2))
    larger = replace(larger, text=replace(larger.text, num_heads=2))
    with pytest.raises(
        UserError, match=r"\[64\] there and \[96\] here.* and \d+ more.*, 0 of its own"
    ):
        begun(larger)


def test_nothing_is_copied_where_something_does_not_fit(config):
    deeper = replace(config, image=replace(config.image, depth=3))
    own = build_tokenizer(deeper)
    model = initial_model(deeper, pad_token=own.pad_token)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError):
        begin_with(model, own, deeper)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_the_names_of_the_other_tower_are_not_counted(config):
    model = initial_model(config, pad_token=1)
    theirs = {"image_tower.strange": torch.ones(1), "text_tower.strange": torch.ones(1)}
    fitted, report = fit(model, theirs, part="text", source="x", strict=False)
    assert (fitted, report.left) == ({}, ["text_tower.strange"])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("text_tower.positions", (0, 32)),
        ("image_tower.backbone.pos_embed", (1, 0, 32)),
        # A sound number of places, but as often as one likes.
        ("image_tower.backbone.pos_embed", (5, 9, 32)),
    ],
)
def test_positions_that_cannot_be_interpolated_do_not_fit(config, name, shape):
    model = initial_model(config, pad_token=1)
    fitted, report = fit(model, {name: torch.ones(shape)}, part="model", source="x", strict=False)
    assert (fitted, report.left, report.resized, report.matched) == ({}, [name], {}, 0)
    theirs = model.state_dict() | {name: torch.ones(shape)}
    with pytest.raises(UserError, match=re.escape(f"{name} {list(shape)} there")):
        fit(model, theirs, part="model", source="x", strict=True)


# The largest is finite where it lies, and not in the kind of numbers of the model.
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_with_their_number(config, value, strict):
    model = initial_model(config, pad_token=1)
    theirs = model.state_dict()
    bias = torch.zeros_like(theirs["text_tower.norm.bias"], dtype=torch.float64)
    bias[:3] = value
    with pytest.raises(UserError, match=r"3 of its .* finite \(3 of text_tower\.norm\.bias\)"):
        fit(
            model,
            theirs | {"text_tower.norm.bias": bias},
            part="model",
            source="x",
            strict=strict,
        )


@pytest.mark.parametrize(
    ("section", "changes", "told"),
    [
        ("text", {"padding": "masked"}, "set --text.padding siglip"),
        ("tokenizer", {"model_file": "emoji", "vocab_size": 3302}, r"and the tokenizer of this run 3302"),
        ("tokenizer", {"pad_token": 0}, r"fills rows with the token </s> \(1\).* --tokenizer\.pad-token 1"),
    ],
)  # fmt: skip
def test_a_text_tower_needs_its_padding_and_its_tokenizer(config, section, changes, told):
    changed = replace(config, **{section: replace(getattr(config, section), **changes)})
    with pytest.raises(UserError, match=told):
        begun(changed)


def test_another_tokenizer_of_the_same_size_is_refused(config, tmp_path, monkeypatch):
    # Bytes behind the model that sentencepiece passes over: another file with the same pieces.
    other = tmp_path / "other.model"
    other.write_bytes((tmp_path / config.tokenizer.model_file).read_bytes() + b"\xd2\x7d\x01\x61")
    changed = replace(config, tokenizer=replace(config.tokenizer, model_file=str(other)))
    with pytest.raises(
        UserError, match=r"was trained with the tokenizer .*spiece\.model, and this"
    ):
        begun(changed)


def test_weights_without_a_tokenizer_need_one_that_the_user_names(config, folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    bare = replace(config, init=replace(config.init, model=f"hf:{tmp_path}"))
    assert begun(bare)[0][0].left == []
    images = replace(bare, init=replace(bare.init, model="", image=f"hf:{tmp_path}"))
    assert begun(replace(images, tokenizer=TokenizerConfig()))[0][0].part == "image"


def test_a_token_table_that_is_one_number_and_a_pad_token_that_is_no_text_are_refused(
    config, folder, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    changed = replace(config, init=replace(config.init, model=f"hf:{copy}"))
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "\ud800"}))
    with pytest.raises(
        UserError, match=r"fills rows with '\\ud800', which is no token \(bad utf-8"
    ):
        begun(changed)
    tensors = load_file(copy / "model.safetensors")
    tensors["text_model.embeddings.token_embedding.weight"] = torch.tensor(1.0)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(UserError, match="has 0 token ids"):
        begun(changed)


def test_the_report_is_printed_and_kept(config, tmp_path, capsys):
    (report,), _, _ = begun(config)
    record_fits(tmp_path, [report])
    assert f"init.model {config.init.model}: " in capsys.readouterr().err
    assert '"matched": ' in (tmp_path / "initial_weights.json").read_text()
    record_fits(tmp_path / "none", [])


@pytest.mark.parametrize(
    ("init", "told"),
    [
        (
            {"model": "a", "text": "b"},
            r"init\.model a gives both .* init\.text b would be given twice",
        ),
        ({"unlock_from_block": 2}, "nothing is locked; add --init.lock-image"),
    ],
)
def test_settings_that_say_two_things_are_refused_before_anything_is_read(init, told):
    config = replace(load_config("emoji"), init=InitConfig(**init))
    with pytest.raises(UserError, match=told):
        validate(config, world_size=1)


def test_what_a_run_begins_with_is_said_in_a_phrase(config):
    assert describe_init(replace(config.init, model="")) == ""
    locked = replace(config.init, model="", image="a", text="b", lock_image=True)
    assert describe_init(locked) == ", beginning with a and b, image tower locked"
    later = replace(locked, unlock_from_block=2)
    assert describe_init(later).endswith("image tower locked up to block 2")
