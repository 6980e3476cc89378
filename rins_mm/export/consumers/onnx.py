"""The format onnx as onnxruntime reads it, with the library tokenizers for strings."""

import json
from pathlib import Path
from typing import Any


def load(folder: Path) -> "Consumer":
    """Both graphs, their settings and the tokenizer."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return Consumer(
        onnxruntime.InferenceSession(folder / "image.onnx", options),
        onnxruntime.InferenceSession(folder / "text.onnx", options),
        json.loads((folder / "onnx.json").read_text()),
        Tokenizer.from_file(str(folder / "fast_tokenizer.json")),
    )


class Consumer:
    """Asks onnxruntime."""

    def __init__(self, image: Any, text: Any, settings: Any, tokenizer: Any) -> None:
        self.image, self.text, self.settings, self.tokenizer = image, text, settings, tokenizer

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows without padding."""
        rows = self.tokenizer.encode_batch(strings)
        return [row.ids[: sum(row.attention_mask)] for row in rows]

    def text_vectors(self, strings: list[str]) -> Any:
        """Unit vectors."""
        import numpy as np

        rows = self.tokenizer.encode_batch(strings)
        inputs = {"ids": np.array([row.ids for row in rows], dtype=np.int64)}
        if self.settings["text"]["mask"]:
            inputs["mask"] = np.array([row.attention_mask for row in rows], dtype=np.int64)
        return self.text.run(None, inputs)[0]

    def pixels(self, pictures: list[Any]) -> Any:
        """Pictures squeezed to the square by Pillow, and normalised."""
        import numpy as np
        from PIL import Image

        size, mean, std = (self.settings["image"][name] for name in ("size", "mean", "std"))
        squares = [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]
        levels = np.stack([np.asarray(square, dtype=np.float32) for square in squares])
        return ((levels / 255 - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)

    def picture_vectors(self, pixels: Any) -> Any:
        """Unit vectors."""
        return self.image.run(None, {"pixels": pixels})[0]
