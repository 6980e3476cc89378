"""Two towers, a scale and a bias: SigLIP (arXiv 2303.15343), either tower recursive."""

import math
import os
import resource
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.models.signatures import Calls
from rins_mm.models.text_tower import TextTower, TextTowerConfig, initialise_text_tower


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
    copies: int = 1,
) -> SigLIP:
    """A model with freshly initialised weights, a pure function of the seed.

    Anybody may have recorded its sizes, so it is measured first: UserError for towers of more than 1,000
    blocks, for sizes that make no sense, and for more weights than this process can hold; `copies` times
    as much must find room, such as gradients.
    """
    build = partial(
        SigLIP,
        image,
        text,
        vocab_size=vocab_size,
        pad_token=pad_token,
        initial_scale=initial_scale,
        initial_bias=initial_bias,
    )
    # timm draws from the global generator; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shapes = _shapes_of(build, image, text, vocab_size, copies)
        if torch.get_default_device().type == "meta":
            return shapes
        model = build()
    initialise_text_tower(model.text_tower, torch.Generator().manual_seed(seed))
    return model


def _shapes_of(
    build: Callable[[], SigLIP],
    image: ImageTowerConfig,
    text: TextTowerConfig,
    vocab_size: int,
    copies: int,
) -> SigLIP:
    """The model without its numbers, if there is one of these sizes and there is room for it."""
    try:
        with torch.device("meta"):
            model = build()
    except UserError:
        raise
    # torch and timm meet sizes that make no sense with nearly any exception there is.
    except Exception as error:
        told = "; ".join(_sizes(image, text, vocab_size).values())
        raise UserError(f"no model can be built of {told} ({error!r}); mend them") from error
    parts = {"image": model.image_tower, "text": model.text_tower}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    needed, there = 4 * copies * sum(sizes.values()), _bytes_of_memory()
    if needed > there:
        name = max(sizes, key=sizes.__getitem__)
        raise UserError(
            f"the {name} tower would have {sizes[name]:,} weights of {_sizes(image, text, vocab_size)[name]}, "
            f"and the model take {needed / 1e9:,.0f} GB of memory{' in training' if copies > 1 else ''}, of "
            f"which there are {there / 1e9:,.0f} GB; choose smaller ones"
        )
    return model


def _sizes(image: ImageTowerConfig, text: TextTowerConfig, vocab_size: int) -> dict[str, str]:
    """The settings that decide on how large each tower is."""
    names = {
        "image": (image, ("name", "image_size", "patch_size", "width", "depth", "num_heads")),
        "text": (text, ("width", "depth", "num_heads", "mlp_width", "context_length")),
    }
    told = {
        tower: ", ".join(
            f"{tower}.{name} {getattr(config, name)}"
            for name in some
            if getattr(config, name) is not None
        )
        for tower, (config, some) in names.items()
    }
    told["text"] += f", tokenizer.vocab_size {vocab_size}"
    if image.stem_channels:
        told["image"] += f", image.stem_channels {str(image.stem_channels)[:40]}"
    return told


def _bytes_of_memory() -> int:
    """Of this machine, or what this process may take of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    return machine if allowed == resource.RLIM_INFINITY else min(machine, allowed)
