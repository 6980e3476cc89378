"""torch.compile by block: what is compiled is a block, not a depth, so that every signature can use it."""

import torch
from torch.fx.experimental import _config as symbolic_shapes

from rins_mm.models.adapters import rounds_with_adapters
from rins_mm.models.siglip import SigLIP


def compile_blocks(model: SigLIP, *, backend: str) -> None:
    """Compile the blocks of both towers where they are: names of weights stay as they were.

    The number of a text tower's rows and their length change from step to step: no size of its inputs is
    taken to be fixed. Without blocks (convolutional models) an image tower stays as it is.
    """
    # Sizes that happen to be equal in the first step need not be in the next.
    symbolic_shapes.use_duck_shape = False
    blocks = [model.text_tower.blocks[index] for index in range(len(model.text_tower.blocks))]
    for block in blocks:
        block.compile(backend=backend, dynamic=True)
    stack = model.image_tower.stack
    if stack is not None:
        for index in range(len(stack)):
            stack[index].compile(backend=backend)
    # One graph for each block in training, and one in evaluation; with changes of low rank, of each round.
    rounds = 1 + max(
        len(numbers)
        for tower in (model.text_tower, model.image_tower)
        for numbers in ((), *rounds_with_adapters(tower.config.recursion).values())
    )
    torch._dynamo.config.recompile_limit = max(
        torch._dynamo.config.recompile_limit, 2 * rounds * (len(blocks) + len(stack or ()))
    )
