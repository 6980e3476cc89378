"""The format open_clip as open_clip reads it."""

from pathlib import Path
from typing import Any

USES_TORCHVISION = True


def load(folder: Path) -> "Consumer":
    """Model, preparation and tokenizer of the folder."""
    import open_clip

    name = f"local-dir:{folder}"
    model, _, prepare = open_clip.create_model_and_transforms(name)
    return Consumer(model.eval(), prepare, open_clip.get_tokenizer(name))


class Consumer:
    """Asks open_clip, as its documentation says."""

    def __init__(self, model: Any, prepare: Any, tokenizer: Any) -> None:
        self.model, self.prepare, self.tokenizer = model, prepare, tokenizer

    def token_ids(self, strings: list[str]) -> list[list[int]]:
        """Rows up to their end token, which padding may be too."""
        end = self.tokenizer.tokenizer.eos_token_id
        rows = self.tokenizer(strings).tolist()
        return [row[: row.index(end) + 1] for row in rows]

    def left_alone(self, strings: list[str]) -> list[bool]:
        """open_clip mends broken Unicode and HTML first, whatever the tokenizer was trained with."""
        clean = self.tokenizer.clean_fn
        return [clean(string).split() == string.split() for string in strings]

    def text_vectors(self, strings: list[str]) -> Any:
        """Vectors, not of unit norm."""
        import torch

        with torch.no_grad():
            return self.model.encode_text(self.tokenizer(strings)).numpy()

    def pixels(self, pictures: list[Any]) -> Any:
        """What the preparation makes of pictures."""
        import torch

        return torch.stack([self.prepare(picture) for picture in pictures]).numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Vectors, not of unit norm."""
        import torch

        with torch.no_grad():
            return self.model.encode_image(torch.from_numpy(pixels)).numpy()
