"""The sigmoid loss in each form that is measured, forward and backward, from fp32 features of one process."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from data_pipelines import torchvision_cpu  # noqa: F401
from rins_mm.losses import sigmoid_loss

PRODUCT_ROWS = 4096
"""Rows of a product: as quick as all at once, without a matrix of all pairs."""
Form = Callable[..., Callable[[], object]]
"""From batch, width, device and tile size: one run of a form."""


def loss_forms(compiler: str) -> dict[str, Form]:
    """The forms by name: `products` is the limit of all others; `compiled` is there if there is a compiler."""
    compiled = {} if compiler == "off" else {"compiled": partial(tiled_run, compiler=compiler)}
    return {"products": products_run, "tiled": tiled_run, **compiled, "open_clip": open_clip_run}


def tiled_run(
    batch: int, width: int, device: torch.device, tile_size: int, *, compiler: str = "off"
) -> Callable[[], object]:
    """This project's default form; keys in two columns, as the trainer has them."""
    images, texts, scale, bias = _leaves(batch, width, device)
    keys = torch.randint(2**62, (batch, 2), device=device)
    valid = torch.ones(batch, dtype=torch.bool, device=device)

    def run() -> None:
        loss = sigmoid_loss(
            images, texts, logit_scale=scale, logit_bias=bias, image_keys=keys, text_keys=keys,
            valid=valid, group=None, tile_size=tile_size, compiler=compiler,
        )  # fmt: skip
        torch.autograd.grad(loss, (images, texts, scale, bias))

    return run


def open_clip_run(
    batch: int, width: int, device: torch.device, tile_size: int
) -> Callable[[], object]:
    """open_clip's loss and autograd."""
    # After torchvision_cpu, which stands above and which isort would not keep in front.
    from open_clip.loss import SigLipLoss

    images, texts, scale, bias = _leaves(batch, width, device)
    loss_of = SigLipLoss()

    def run() -> None:
        loss = loss_of(images, texts, scale.exp(), bias)
        torch.autograd.grad(loss, (images, texts, scale, bias))

    return run


def products_run(
    batch: int, width: int, device: torch.device, tile_size: int
) -> Callable[[], object]:
    """The three matrix products alone, into memory that is there already."""
    images, texts = (leaf.detach() for leaf in _leaves(batch, width, device)[:2])
    pairs = torch.empty(min(PRODUCT_ROWS, batch), batch, device=device)
    image_gradient, text_gradient = torch.zeros_like(images), torch.zeros_like(texts)

    def run() -> None:
        parts = zip(images.split(PRODUCT_ROWS), image_gradient.split(PRODUCT_ROWS), strict=True)
        for rows, gradient in parts:
            logits = torch.mm(rows, texts.T, out=pairs[: len(rows)])
            torch.mm(logits, texts, out=gradient)
            text_gradient.addmm_(logits.T, rows)

    return run


def _leaves(batch: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit vectors, and the two parameters at their start."""
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(batch, width, device=device), dim=-1) for _ in "it")
    scale, bias = torch.tensor([math.log(10.0)]), torch.tensor([-10.0])
    images, texts, scale, bias = (
        leaf.to(device).requires_grad_() for leaf in (images, texts, scale, bias)
    )
    return images, texts, scale, bias
