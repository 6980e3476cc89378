"""Two towers, a scale and a bias: SigLIP (arXiv 2303.15343), either tower recursive."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.models.signatures import Calls
from rins_mm.models.text_tower import TextTower, TextTowerConfig, initialise_text_tower

MAX_BLOCKS = 10_000
"""Of a tower."""


class SigLIP(nn.Module):
    """An image tower and a text tower that share an embedding."""

    def __init__(
        self,
        image: ImageTowerConfig,
        text: TextTowerConfig,
        *,
        vocab_size: int,
        pad_token: int,
        initial_scale: float = 10.0,
        initial_bias: float = -10.0,
    ) -> None:
        super().__init__()
        self.image_tower = ImageTower(image)
        self.text_tower = TextTower(
            text,
            vocab_size=vocab_size,
            pad_token=pad_token,
            embedding_width=self.image_tower.embedding_width,
        )
        # Shape [1], not []: FSDP2 shards along the first axis, and a scalar has none.
        self.logit_scale = nn.Parameter(torch.full((1,), math.log(initial_scale)))
        self.logit_bias = nn.Parameter(torch.full((1,), initial_bias))

    def forward(
        self,
        images: Float[Tensor, "B 3 S S"],
        tokens: Int32[Tensor, " T"],
        offsets: Int32[Tensor, " O"],
        image_calls: Calls,
        text_calls: Calls,
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
        """Unit vectors (fp32, or the towers' fp64) of the pictures, with values in [0, 1], and of the captions."""
        image_features = self.image_tower(images, image_calls)
        text_features = self.text_tower(tokens, offsets, text_calls)
        return unit(image_features), unit(text_features)


def unit(features: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
    """The vectors in fp32 or more, scaled to norm 1."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return F.normalize(features, dim=-1, eps=1e-8)


def build_model(
    image: ImageTowerConfig,
    text: TextTowerConfig,
    *,
    vocab_size: int,
    pad_token: int,
    seed: int,
    initial_scale: float = 10.0,
    initial_bias: float = -10.0,
) -> SigLIP:
    """A model with freshly initialised weights, a pure function of the seed.

    Raises UserError for towers of more than 10,000 blocks, which a recorded configuration may name.
    """
    for name, depth in (("image.depth", image.depth or 1), ("text.depth", text.depth)):
        if depth > MAX_BLOCKS:
            raise UserError(f"{name} is {depth:,}; give at most {MAX_BLOCKS:,} blocks")
    # timm draws from the global generator; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SigLIP(
            image,
            text,
            vocab_size=vocab_size,
            pad_token=pad_token,
            initial_scale=initial_scale,
            initial_bias=initial_bias,
        )
    if model.logit_scale.device.type != "meta":
        initialise_text_tower(model.text_tower, torch.Generator().manual_seed(seed))
    return model
