"""The image tower: any timm model by name, with recursion for those that keep a list of `blocks`."""

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
import timm
import torch
from jaxtyping import Float
from timm.layers import GELUTanh, GroupNorm1
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.models.adapters import Adapters
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.signatures import Calls, expand
from rins_mm.models.transformer import Gelu, require_depth


@dataclass(frozen=True, kw_only=True)
class ImageTowerConfig:
    """An image tower. Sizes left at None are the named model's own."""

    name: str = "vit_base_patch16_siglip_224"
    """Name of a timm model."""
    image_size: int = 224
    """Side of the square pictures in pixels."""
    patch_size: int | None = None
    """Side of a patch in pixels."""
    width: int | None = None
    """Width of the patch vectors, which is also the width of the shared embedding."""
    depth: int | None = None
    """Number of blocks, each counted once however often it runs."""
    num_heads: int | None = None
    """Attention heads; must divide the width."""
    gelu: Gelu | None = None
    """ViTs: form of the GELU, tanh (Flax, big_vision, transformers' SigLIP) or exact (most of timm's)."""
    stem_channels: tuple[int, ...] = ()
    """Channels of 3x3 convolutions of stride 2 in place of the patch embedding; empty: the model's own."""
    drop_path: float = 0.0
    """Chance that training skips the residual branch of a block for one picture."""
    patch_dropout: float = 0.0
    """Share of patches left out in training (FLIP)."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from the red, green and blue of pixels in [0, 1]; SigLIP uses 0.5 throughout."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Then divides them; SigLIP uses 0.5 throughout."""
    checkpoint_calls: bool = False
    """Training keeps only what enters each call of a group, and computes the rest again: less memory, more time."""
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    """How the blocks are repeated."""


class ImageTower(nn.Module):
    """Pictures to vectors of the shared embedding (not yet of unit norm)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = _build_timm_model(config)
        # Some convolutional models widen their vectors once more before the classifier.
        self.embedding_width: int = getattr(
            self.backbone, "head_hidden_size", self.backbone.num_features
        )
        self.adapters = Adapters(config.recursion, self.backbone.num_features)
        _install_recursion(self.backbone, config, self.adapters)
        self.locked: tuple[nn.Module, ...] = ()
        """Parts that training leaves as they are; see locking.py."""
        for name, values in (("mean", config.mean), ("std", config.std)):
            # Part of the configuration, not of the weights.
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    @property
    def stack(self) -> RecursiveStack | None:
        """The model's blocks; None where it keeps no list of them."""
        blocks = getattr(self.backbone, "blocks", None)
        return blocks if isinstance(blocks, RecursiveStack) else None

    def train(self, mode: bool = True) -> "ImageTower":
        """Begin or end training; what is locked works as in use, and so do statistics beside it."""
        super().train(mode)
        for part in self.locked:
            part.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 S S"], calls: Calls) -> Float[Tensor, "B E"]:
        """Vectors of square pictures with values in [0, 1]."""
        if self.stack is not None:
            self.stack.check(calls)
            self.stack.calls = calls
        pixels = (images - self.mean) / self.std
        if self.stack is None:
            # Convolutions of separate channels take a fifth of the time where colours lie side by side.
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.backbone(pixels)

    def forward_variants(
        self, images: Float[Tensor, "B 3 S S"], variants: Sequence[Calls]
    ) -> list[Float[Tensor, "B E"]]:
        """The vectors at several depths, not in training; rounds that the depths share run once."""
        for calls in variants:
            self.check(calls)
        with self.stack.remembering() if self.stack is not None else nullcontext():
            return [self(images, calls) for calls in variants]

    def check(self, calls: Calls) -> None:
        """Refuse calls of groups that this tower does not have; without blocks it has one depth."""
        if self.stack is not None:
            self.stack.check(calls)
        elif calls != expand(self.config.recursion.signature):
            raise UserError(
                f"the timm model {self.config.name!r} keeps no list of equal blocks, so that it cannot run "
                f"the calls {''.join(calls)!r}; use {self.config.recursion.signature}"
            )


def set_fused_attention(model: nn.Module, *, fused: bool) -> None:
    """Choose timm's attention kernel: written-out products are over twice as fast in bf16 on a CPU."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", fused)  # noqa: B010  (an attribute that only timm's type knows)


def settings_of_backbone(backbone: Any) -> dict[str, Any]:
    """What no weight of a timm model shows, under the names of our settings; nothing of what it lacks."""
    found: dict[str, Any] = {}
    for part in backbone.modules():
        if "image.num_heads" not in found and hasattr(part, "num_heads"):
            found["image.num_heads"] = part.num_heads
        if isinstance(part, GELUTanh):
            found["image.gelu"] = "tanh"
        elif isinstance(part, nn.GELU):
            found["image.gelu"] = "tanh" if part.approximate == "tanh" else "exact"
        if isinstance(part, nn.LayerNorm):
            found["image.norm_epsilon"] = part.eps
    return found


def _build_timm_model(config: ImageTowerConfig) -> Any:
    require_depth("image.depth", config.depth or 1)
    if not timm.is_model(config.name):
        nearest = difflib.get_close_matches(config.name, timm.list_models(), n=3, cutoff=0.3)
        raise UserError(
            f"timm {timm.__version__} has no model named {config.name!r}; "
            f"the nearest names are {', '.join(nearest) or 'none'}"
        )
    # timm divides by it, and finds out in the forward pass.
    if config.num_heads is not None and config.num_heads < 1:
        raise UserError(f"image.num_heads is {config.num_heads}; it must be at least 1")
    settings: dict[str, Any] = {
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "act_layer": {"tanh": "gelu_tanh", "exact": "gelu", None: None}[config.gelu],
        "drop_path_rate": config.drop_path or None,
        "patch_drop_rate": config.patch_dropout or None,
        "embed_layer": _convolutional_stem(config.stem_channels) if config.stem_channels else None,
    }
    try:
        pretrained = timm.get_pretrained_cfg(config.name)
    except RuntimeError as error:
        raise UserError(
            f"timm cannot build {config.name!r}: {error}; leave out what follows the dot"
        ) from error
    if pretrained is not None and pretrained.fixed_input_size:
        # Convolutional models take any size and know no such setting.
        settings["img_size"] = config.image_size
    if timm.model_entrypoint(config.name).__module__ == VisionTransformer.__module__:
        # Xavier-uniform kernels, nearly as big_vision initialises its ViTs.
        settings["weight_init"] = "jax"
    chosen = {name: value for name, value in settings.items() if value is not None}
    try:
        return timm.create_model(config.name, pretrained=False, num_classes=0, **chosen)
    except (TypeError, AssertionError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"timm cannot build {config.name!r} with {chosen}: {error}; "
            "change or leave out the image settings that it names"
        ) from error


def _convolutional_stem(channels: Sequence[int]) -> Any:
    """An embedding layer whose patches are the pixels of a small convolutional network's output."""

    def build(**settings: Any) -> HybridEmbed:
        stem = ConvStem(
            channels=tuple(channels),
            depth=len(channels),
            stride=(2,) * len(channels),
            kernel_size=3,
            # Not BatchNorm: statistics of a batch would depend on how it is cut over ranks.
            norm_layer=partial(GroupNorm1),
            act_layer=nn.GELU,
        )
        settings["patch_size"] = 1
        return HybridEmbed(stem, **settings)

    return build


def _install_recursion(backbone: Any, config: ImageTowerConfig, adapters: Adapters) -> None:
    """Replace the model's list of blocks by a stack that can repeat them."""
    blocks = getattr(backbone, "blocks", None)
    # The `blocks` of convolutional models are stages of different widths, each a Sequential.
    if isinstance(blocks, nn.Sequential | nn.ModuleList) and not any(
        isinstance(block, nn.Sequential) for block in blocks
    ):
        backbone.blocks = RecursiveStack(
            list(blocks),
            config.recursion.signature,
            split=config.recursion.split,
            checkpoint_calls=config.checkpoint_calls,
            adapters=adapters,
        )
    elif config.checkpoint_calls:
        raise UserError(
            f"the timm model {config.name!r} keeps no list of equal blocks, so that "
            "image.checkpoint_calls has no calls to keep the inputs of; leave it off or use a ViT"
        )
    elif config.recursion != RecursionConfig():
        raise UserError(
            f"the timm model {config.name!r} keeps no list of equal blocks, so that the signature "
            f"{config.recursion.signature!r} cannot repeat them; use AB or a ViT"
        )
