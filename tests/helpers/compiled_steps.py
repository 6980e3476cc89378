"""Stochastic steps of a compiled model; ends with an error when one compiles anything after the first.

A program of its own: the checks of annotations that tests run under cannot be compiled.
"""

import sys

import torch
from torch._dynamo.utils import counters

from rins_mm.models.compiled import compile_blocks
from rins_mm.models.draws import RecursionConfig, draw_calls
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import SigLIP, build_model
from rins_mm.models.text_tower import TextTowerConfig

RECURSIONS = {
    "none": RecursionConfig(signature="A^3B", skip_probability=0.5),
    "linear": RecursionConfig(signature="A^3B", skip_probability=0.5, adapter="linear"),
    "lora": RecursionConfig(signature="A^3B", skip_probability=0.5, adapter="lora", adapter_rank=2),
    "latent": RecursionConfig(kind="latent", signature="AB^3C", latent_gradient_rounds=2),
}
RINS = RECURSIONS[sys.argv[2]]
DEPTH = 3 if RINS.kind == "latent" else 2
WARM_UP = {"none": 1, "linear": 1, "lora": 12, "latent": 12}[sys.argv[2]]
"""Steps after which all was seen: each round with a change of low rank is a graph, and so is one without gradient."""


def build() -> SigLIP:
    """Two small towers, both recursive."""
    image = ImageTowerConfig(
        image_size=16, patch_size=8, width=32, depth=DEPTH, num_heads=2, recursion=RINS
    )
    text = TextTowerConfig(
        width=32, depth=DEPTH, num_heads=2, mlp_width=64, context_length=12, recursion=RINS
    )
    return build_model(image, text, vocab_size=20, pad_token=0, seed=1).train()


def step(model: SigLIP, number: int) -> torch.Tensor:
    """The loss and the gradients of one step: its captions, their lengths and its calls follow its number."""
    generator = torch.Generator().manual_seed(number)
    lengths = torch.randint(1, 13, (16,), generator=generator)
    offsets = torch.cat((torch.zeros(1), lengths.cumsum(0))).int()
    tokens = torch.randint(2, 20, (int(offsets[-1]),), generator=generator, dtype=torch.int32)
    images = torch.rand(16, 3, 16, 16, generator=generator)
    calls = [draw_calls(RINS, tower=name, seed=0, step=number) for name in ("image", "text")]
    model.zero_grad(set_to_none=False)
    image_features, text_features = model(images, tokens, offsets, *calls)
    loss = (image_features * text_features).sum()
    loss.backward()
    # What these calls do not use has no gradient, or one of zero from an earlier step.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([loss.detach()[None], *(gradient.flatten() for gradient in gradients)])


def main() -> None:
    """Run, compare with the eager model, and print what was compiled."""
    last = int(sys.argv[1])
    model, eager = build(), build()
    names = list(model.state_dict())
    compile_blocks(model, backend="aot_eager")
    assert list(model.state_dict()) == names
    for number in range(WARM_UP):
        step(model, number)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        found = [step(model, number) for number in range(1, last + 1)]
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"], counters["graph_break"]
    for number in (1, last // 2, last):
        torch.testing.assert_close(found[number - 1], step(eager, number), rtol=1e-4, atol=1e-5)
    print(f"{graphs} graphs, {last} steps, nothing compiled after the first {WARM_UP}")


if __name__ == "__main__":
    main()
