"""The format pt2 as torch reads it, with the library tokenizers for strings."""

import json
from pathlib import Path
from typing import Any


def load(folder: Path) -> "Consumer":
    """Both programs, their settings and the tokenizer."""
    import torch
    from tokenizers import Tokenizer

    torch.set_num_threads(1)
    return Consumer(
        torch.export.load(folder / "image.pt2").module(),
        torch.export.load(folder / "text.pt2").module(),
        json.loads((folder / "pt2.json").read_text()),
        Tokenizer.from_file(str(folder / "fast_tokenizer.json")),
    )


class Consumer:
    """Asks torch."""

    def __init__(self, image: Any, text: Any, settings: Any, tokenizer: Any) -> None:
        self.image, self.text, self.settings, self.tokenizer = image, text, settings, tokenizer

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows without padding."""
        rows = self.tokenizer.encode_batch(strings)
        return [row.ids[: sum(row.attention_mask)] for row in rows]

    def text_vectors(self, strings: list[str]) -> Any:
        """Unit vectors."""
        import torch

        rows = self.tokenizer.encode_batch(strings)
        inputs = [torch.tensor([row.ids for row in rows])]
        if self.settings["text"]["mask"]:
            inputs.append(torch.tensor([row.attention_mask for row in rows]))
        with torch.no_grad():
            return self.text(*inputs).numpy()

    def pixels(self, pictures: list[Any]) -> Any:
        """Pictures squeezed to the square, and normalised."""
        import numpy as np
        import torch
        from torch.nn.functional import interpolate

        size, mean, std = (self.settings["image"][name] for name in ("size", "mean", "std"))
        mean, std = (torch.tensor(each)[:, None, None] for each in (mean, std))
        levels = [
            torch.from_numpy(np.array(picture))[None].permute(0, 3, 1, 2) for picture in pictures
        ]
        squares = [
            interpolate(each, (size, size), mode="bicubic", antialias=True) for each in levels
        ]
        return ((torch.cat(squares) / 255 - mean) / std).numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Unit vectors."""
        import numpy as np
        import torch

        with torch.no_grad():
            return self.image(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
