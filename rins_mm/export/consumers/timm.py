"""The format timm as timm reads it: the image tower."""

from pathlib import Path
from typing import Any

USES_TORCHVISION = True


def load(folder: Path) -> "Consumer":
    """Model and preparation of the folder."""
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return Consumer(model, create_transform(**resolve_data_config({}, model=model)))


class Consumer:
    """Asks timm, as its documentation says."""

    def __init__(self, model: Any, prepare: Any) -> None:
        self.model, self.prepare = model, prepare

    def pixels(self, pictures: list[Any]) -> Any:
        """What the preparation makes of pictures."""
        import torch

        return torch.stack([self.prepare(picture) for picture in pictures]).numpy()

    def picture_vectors(self, pixels: Any) -> Any:
        """Vectors, not of unit norm."""
        import torch

        with torch.no_grad():
            return self.model(torch.from_numpy(pixels)).numpy()
