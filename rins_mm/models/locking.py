"""Locked image towers (LiT, arXiv 2111.07991): trained before, and left as they are by this training."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import ImageTower


def lock(tower: ImageTower, *, unlock_from_block: int | None = None) -> None:
    """Take the tower's parameters out of training: all, or those before a block (counted from 0).

    With as many as there are blocks, only what follows them is trained. What is locked gets no gradients,
    no updates and no decay, and keeps nothing for a backward pass. Statistics of BatchNorm stay as they
    are in the whole tower, so that they cannot differ between ranks.
    """
    parts, loose = _before(tower, unlock_from_block)
    for parameter in [*loose, *(p for part in parts for p in part.parameters())]:
        parameter.requires_grad_(False)
    statistics = [part for part in tower.modules() if isinstance(part, _BatchNorm)]
    tower.locked = (*parts, *statistics)
    tower.train(tower.training)


def _before(tower: ImageTower, block: int | None) -> tuple[list[nn.Module], Iterable[nn.Parameter]]:
    """The modules and the single parameters before a block; of the whole tower for None."""
    if block is None:
        return [tower.backbone, tower.adapters], ()
    blocks = getattr(tower.backbone, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise UserError(
            f"init.unlock_from_block is {block}, but the timm model {tower.config.name!r} keeps no list of "
            "blocks; lock all of it, or choose a model with blocks"
        )
    if not 0 <= block <= len(blocks):
        raise UserError(
            f"init.unlock_from_block is {block}, and the image tower has {len(blocks)} blocks; "
            f"name one of 0 to {len(blocks)}"
        )
    names = [name for name, _ in tower.backbone.named_children()]
    # timm registers what runs before the blocks before them.
    first = [tower.backbone.get_submodule(name) for name in names[: names.index("blocks")]]
    return [*first, *list(blocks.children())[:block]], tower.backbone.parameters(recurse=False)
