"""The sigmoid loss with compiled tiles beside the one without; ends with an error where they differ.

A program of its own: the checks of annotations that tests run under cannot be compiled.
"""

import sys

import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

from rins_mm.losses import choose_loss

LEAVES = ("images", "texts", "logit_scale", "logit_bias")


def make_batch(number: int, columns: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Unit vectors, some of them holes, some with the keys of others."""
    generator = torch.Generator().manual_seed(number)
    images, noise = torch.randn(2, number, 8, generator=generator, dtype=dtype)
    keys = torch.randint(number, (2, number, columns), generator=generator)
    return {
        "images": F.normalize(images, dim=-1),
        "texts": F.normalize(images + noise, dim=-1),
        "logit_scale": torch.tensor([3.0], dtype=dtype),
        "logit_bias": torch.tensor([-10.0], dtype=dtype),
        "image_keys": keys[0],
        "text_keys": torch.where(keys[1] % 2 == 0, keys[0], keys[1]),
        "valid": torch.rand(number, generator=generator) < 0.8,
    }


def gradients_of(batch: dict[str, torch.Tensor], tile_size: int, compiler: str) -> list:
    """The value, and the gradients of the leaves."""
    loss = choose_loss(
        "sigmoid", form="tiled", tile_size=tile_size, exchange="ring", compiler=compiler
    )
    leaves = [batch[name].clone().requires_grad_() for name in LEAVES]
    others = {name: value for name, value in batch.items() if name not in LEAVES}
    features, parameters = leaves[:2], dict(zip(LEAVES[2:], leaves[2:], strict=True))
    value = loss(*features, **parameters, **others, group=None)
    with torch.no_grad():
        assert torch.equal(loss(*features, **parameters, **others, group=None), value)
    return [value, *torch.autograd.grad(value, leaves)]


def main() -> None:
    """Compare, and print what was compiled."""
    backend = sys.argv[1]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        # The first has whole tiles and parts of them; no other needs a graph of its own.
        for number, tile_size in ((20, 8), (16, 8), (30, 16), (100, 32), (7, 5)):
            batch = make_batch(number, 2, dtype)
            found = gradients_of(batch, tile_size, backend)
            for one, other in zip(found, gradients_of(batch, tile_size, "off"), strict=True):
                assert (one - other).norm() <= tolerance * other.norm(), (dtype, number)
            graphs = counters["stats"]["unique_graphs"]
            assert graphs <= (3 if dtype == torch.float64 else 6), (number, graphs)
    assert not counters["graph_break"], counters["graph_break"]
    print(f"{graphs} graphs, equal gradients")


if __name__ == "__main__":
    main()
