"""Contrastive image-text models with recursive towers.

import rins_mm
encoder = rins_mm.load("exports/emoji")
encoder.encode_texts(["a red apple"])        # [1, E], unit norm
encoder.encode_images(["apple.png"])         # [1, E], unit norm
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rins_mm.encoder import SigLIPEncoder


def load(folder: str | Path, *, device: str = "cpu") -> "SigLIPEncoder":
    """The encoder of an export folder, or of a run folder's newest checkpoint."""
    # Here and not above: `import rins_mm` alone should not take the seconds that torch and timm take.
    from rins_mm.encoder import load_encoder

    return load_encoder(Path(folder), device=device)
