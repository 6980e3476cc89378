"""Widths and depths of the usual text towers (the ViT sizes of big_vision)."""

from typing import Any

from rins_mm.models.text_tower import TextTowerConfig

TEXT_SIZES: dict[str, dict[str, int]] = {
    "Ti": {"width": 192, "depth": 12, "num_heads": 3, "mlp_width": 768},
    "S": {"width": 384, "depth": 12, "num_heads": 6, "mlp_width": 1536},
    "M": {"width": 512, "depth": 12, "num_heads": 8, "mlp_width": 2048},
    "B": {"width": 768, "depth": 12, "num_heads": 12, "mlp_width": 3072},
    "L": {"width": 1024, "depth": 24, "num_heads": 16, "mlp_width": 4096},
    "So400m": {"width": 1152, "depth": 27, "num_heads": 16, "mlp_width": 4304},
}


def text_tower(size: str, **changes: Any) -> TextTowerConfig:
    """The text tower of a named size, with other settings changed as given."""
    return TextTowerConfig(**{**TEXT_SIZES[size], **changes})
