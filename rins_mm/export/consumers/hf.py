"""The format hf as transformers reads it."""

from pathlib import Path
from typing import Any

USES_TORCHVISION = True


def load(folder: Path) -> "Consumer":
    """Model and processor by their Auto classes, from this folder alone."""
    import torch
    from transformers import AutoModel, AutoProcessor, AutoTokenizer

    safe = {"local_files_only": True, "trust_remote_code": False}
    model, found = AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **safe
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found[kind]:
            raise ValueError(f"{kind}: {sorted(map(str, found[kind]))}")
    processor = AutoProcessor.from_pretrained(folder, **safe)
    return Consumer(model.eval(), processor, AutoTokenizer.from_pretrained(folder, **safe))


class Consumer:
    """Asks transformers, as its documentation says."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, tokenizer

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows without padding."""
        return self.tokenizer(strings, truncation=True)["input_ids"]

    def text_vectors(self, strings: list[str]) -> Any:
        """Vectors of rows that the processor has padded to the whole context, as it does by itself."""
        import torch

        inputs = self.processor(text=strings, return_tensors="pt")
        with torch.no_grad():
            return self.model.get_text_features(**inputs).pooler_output.numpy()

    def pixels(self, pictures: list[Any]) -> Any:
        """What the processor makes of pictures."""
        return self.processor(images=pictures, return_tensors="pt")["pixel_values"].numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Vectors of prepared pictures."""
        import torch

        with torch.no_grad():
            return self.model.get_image_features(torch.from_numpy(pixels)).pooler_output.numpy()
