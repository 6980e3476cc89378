"""The format sentence_transformers as that library reads it."""

from pathlib import Path
from typing import Any

USES_TORCHVISION = True


def load(folder: Path) -> "Consumer":
    """The model of the folder."""
    import torch
    from sentence_transformers import SentenceTransformer

    return Consumer(
        SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    )


class Consumer:
    """Asks sentence-transformers, as its documentation says."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows without padding, which may stand on either side."""
        rows = self.model.preprocess(strings)
        if "attention_mask" not in rows:
            end = self.model.tokenizer.eos_token_id
            return [row[: row.index(end) + 1] for row in rows["input_ids"].tolist()]
        return [
            ids[mask == 1].tolist()
            for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True)
        ]

    def text_vectors(self, strings: list[str]) -> Any:
        """Unit vectors."""
        return self.model.encode(strings, batch_size=len(strings), show_progress_bar=False)

    def pixels(self, pictures: list[Any]) -> Any:
        """What the preparation makes of pictures."""
        return self.model.preprocess(pictures)["pixel_values"].numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Vectors of prepared pictures, by the modules that `encode` runs."""
        import torch

        with torch.no_grad():
            inputs = {"pixel_values": torch.from_numpy(pixels), "modality": "image"}
            return self.model(inputs)["sentence_embedding"].numpy()
