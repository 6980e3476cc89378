"""The format native as this project reads it."""

import json
from pathlib import Path
from typing import Any

IS_THIS_PROJECT = True


def load(folder: Path) -> "Consumer":
    """The encoder of the folder."""
    import rins_mm

    return Consumer(rins_mm.load(folder), json.loads((folder / "parity.json").read_text()))


class Consumer:
    """Asks rins_mm, at the depth that was compared."""

    def __init__(self, encoder: Any, facts: Any) -> None:
        self.encoder, self.facts = encoder, facts

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows without padding."""
        return self.encoder.tokenizer.encode(strings)

    def text_vectors(self, strings: list[str]) -> Any:
        """Unit vectors."""
        return self.encoder.encode_texts(strings, self.facts["text_signature"]).numpy()

    def pixels(self, pictures: list[Any]) -> Any:
        """Resized as the encoder does, and normalised as its tower does."""
        import torch

        from data_pipelines.resize import resize_picture
        from eval.pixels import read_pixels

        tower = self.encoder.model.image_tower
        size = tower.config.image_size
        pixels = torch.stack([resize_picture(read_pixels(picture), size) for picture in pictures])
        return ((pixels.float() / 255 - tower.mean) / tower.std).numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Unit vectors, from the picture that the pixels were."""
        import torch

        tower = self.encoder.model.image_tower
        levels = (torch.from_numpy(pixels) * tower.std + tower.mean) * 255
        arrays = levels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return self.encoder.encode_images(list(arrays)).numpy()
