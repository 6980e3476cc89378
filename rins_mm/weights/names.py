"""What the formats share: renaming by rules, and matrices that one side keeps together and the other apart.

Names that no rule fits stay as they are; the model does not know them, and the report says so.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

IMAGE = "image_tower.backbone."
"""Where a timm model's own names begin in our models."""
TEXT = "text_tower."

Rules = Sequence[tuple[str, str]]
"""Patterns of the beginnings of names, and what replaces them; the first that fits counts."""


def renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The tensors under their new names."""
    return {_renamed(name, rules): tensor for name, tensor in tensors.items()}


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        new, count = re.subn(rf"\A{pattern}", replacement, name)
        if count:
            return new
    return name


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With …qkv.weight from …qkv.0.weight (query), …qkv.1.weight (key) and …qkv.2.weight (value); biases alike.

    kv comes from its two parts in the same way. Parts of which one is missing stay as they are.
    """
    found = dict(tensors)
    for name in tensors:
        first = re.fullmatch(r"(.*\.(qkv|kv))\.0\.(weight|bias)", name)
        if first is None:
            continue
        stem, kind, ending = first.groups()
        parts = [f"{stem}.{number}.{ending}" for number in range(len(kind))]
        if all(part in tensors for part in parts):
            found[f"{stem}.{ending}"] = torch.cat([found.pop(part) for part in parts])
    return found


def with_pool_apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the query of attention pooling apart from its key and value, as timm keeps them."""
    found = dict(tensors)
    for ending in ("weight", "bias"):
        together = found.pop(f"{IMAGE}attn_pool.qkv.{ending}", None)
        if together is not None:
            query, key, value = together.chunk(3)
            found[f"{IMAGE}attn_pool.q.{ending}"] = query
            found[f"{IMAGE}attn_pool.kv.{ending}"] = torch.cat((key, value))
    return found
