"""Calls that are computed again in the backward pass: the same gradients from less memory."""

from dataclasses import replace

import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.models.siglip import SigLIP, build_model
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTowerConfig

RINS = RecursionConfig(signature="A^3B")
IMAGE = ImageTowerConfig(
    image_size=32, patch_size=8, width=32, depth=4, num_heads=2, drop_path=0.3, recursion=RINS
)
TEXT = TextTowerConfig(
    width=32, depth=4, num_heads=2, mlp_width=64, context_length=12, recursion=RINS
)
OFFSETS = torch.tensor([0, 3, 4, 11, 15], dtype=torch.int32)
TOKENS = torch.arange(15, dtype=torch.int32) + 2


def build(*, checkpoint_calls: bool) -> SigLIP:
    image, text = (replace(c, checkpoint_calls=checkpoint_calls) for c in (IMAGE, TEXT))
    return build_model(image, text, vocab_size=20, pad_token=0, seed=1)


def gradients(model: SigLIP, calls: str, precision: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(3)
    images = torch.rand(4, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        features = model(images, TOKENS, OFFSETS, expand(calls), expand(calls))
    (features[0] @ features[1].T).square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("calls", ["AB", "AAAB"])
def test_gradients_are_the_same_bit_for_bit_with_stochastic_depth(calls, precision):
    kept, again = (
        gradients(build(checkpoint_calls=checkpoint_calls).train(), calls, precision)
        for checkpoint_calls in (False, True)
    )
    assert len(kept) == len(again) > 80
    assert all(torch.equal(*pair) for pair in zip(kept, again, strict=True))


def test_only_what_enters_the_calls_is_kept():
    def kept_bytes(checkpoint_calls: bool) -> int:
        tower, sizes = build(checkpoint_calls=checkpoint_calls).text_tower, {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            held = tower(TOKENS.repeat(40), many, expand("AAAB"))
        weights = {p.untyped_storage().data_ptr() for p in tower.parameters()}
        assert held.requires_grad
        return sum(size for address, size in sizes.items() if address not in weights)

    many = torch.cat([OFFSETS[:1], *(OFFSETS[1:] + 15 * number for number in range(40))])
    assert kept_bytes(True) < kept_bytes(False) / 5


def test_a_tower_without_blocks_has_no_calls_to_compute_again():
    with pytest.raises(UserError, match=r"checkpoint_calls.*ViT"):
        ImageTower(ImageTowerConfig(name="resnet10t", image_size=32, checkpoint_calls=True))
