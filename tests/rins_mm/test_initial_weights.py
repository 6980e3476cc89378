from dataclasses import replace

import pytest
import torch
from tiny import encoder, pixels

from data_pipelines.errors import UserError
from rins_mm.config import InitConfig, TrainConfig
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.native import write_native
from rins_mm.initial_weights import begin_with
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.siglip import build_model


def begin(model, source, folder, part="model"):
    config = TrainConfig(init=InitConfig(**{part: str(folder)}))
    return begin_with(model, source.tokenizer, config)


def model_like(source, *, seed=99, text=None, image=None, **recursion):
    towers = source.model.image_tower.config, source.model.text_tower.config
    config = RecursionConfig(**{"signature": "A^3B", **recursion})
    return build_model(
        replace(towers[0], recursion=config, **(image or {})),
        replace(towers[1], recursion=config, **(text or {})),
        vocab_size=source.tokenizer.vocab_size,
        pad_token=source.tokenizer.pad_token,
        seed=seed,
    )


@pytest.fixture(scope="module")
def source():
    found = encoder()
    found.model = model_like(found, seed=5, signature="AB")
    return found


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("warm") / "plain"
    write_native(source, out)
    return out


@pytest.mark.parametrize("adapter", ["none", "linear", "lora", "scale"])
def test_a_plain_tower_becomes_recursive_and_gives_the_same_vectors_at_ab(source, folder, adapter):
    model = model_like(source, adapter=adapter)
    begin(model, source, folder)
    recursive = SigLIPEncoder(model.eval(), source.tokenizer, name="warm")
    captions = ["a red apple", "two cats", "sun"]
    source.model.eval()
    for calls in ("AB", "AAAB"):
        assert torch.equal(
            recursive.encode_texts(captions, signature=calls),
            source.encode_texts(captions, signature=calls),
        )
    pictures = [pixels(1), pixels(2)]
    assert torch.equal(
        recursive.encode_images_at(pictures, ["AB"])["AB"],
        source.encode_images(pictures),
    )
    fresh = adapter_parameters(model_like(source, adapter=adapter))
    kept = adapter_parameters(model)
    assert all(torch.equal(kept[name], parameter) for name, parameter in fresh.items())


def test_adapters_that_were_trained_are_taken_too(source, tmp_path):
    trained = encoder()
    trained.model = model_like(source, adapter="linear")
    for parameter in adapter_parameters(trained.model).values():
        torch.nn.init.normal_(parameter)
    write_native(trained, tmp_path / "adapted")
    model = model_like(source, adapter="linear")
    begin(model, source, tmp_path / "adapted")
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    with pytest.raises(UserError, match=r"4 of its own have no place \(image_tower.adapters"):
        begin(model_like(source), source, tmp_path / "adapted")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": {"mlp_width": 32}}, r"text\.mlp_width 64, and this run has 32"),
        ({"text": {"gelu": "exact"}}, r"text\.gelu 'tanh', and this run has 'exact'"),
        ({"image": {"mean": (0.0, 0.0, 0.0)}}, r"image\.mean"),
    ],
)
def test_what_does_not_fit_is_named(source, folder, changes, told):
    with pytest.raises(UserError, match=told):
        begin(model_like(source, **changes), source, folder)


def test_a_folder_without_a_model_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="neither a run nor an export"):
        begin(model_like(source), source, tmp_path)


@pytest.mark.parametrize(("part", "other"), [("image", "text"), ("text", "image")])
def test_one_tower_alone_is_taken_from_a_run(source, folder, part, other):
    # Only what is taken must be the same.
    changes = {"text": {"mlp_width": 32}, "image": {"mean": (0.0, 0.0, 0.0)}}[other]
    model = model_like(source, **{other: changes})
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (report,) = begin(model, source, folder, part)
    given = source.model.state_dict()
    for name, tensor in model.state_dict().items():
        origin = given if name.startswith(f"{part}_tower.") else fresh
        assert torch.equal(tensor, origin[name]), name
    assert (report.part, report.left, report.began_anew) == (part, [], [])
