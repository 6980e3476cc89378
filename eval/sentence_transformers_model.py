"""A folder of sentence-transformers that encodes pictures and strings, padded as its model needs it.

By default the library pads to the longest string of a batch, which SigLIP's text towers do not bear.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.errors import UserError
from eval.encoder import Picture
from eval.hugging_face_model import (
    KINDS,
    SIGLIP_KINDS,
    canonical_texts,
    pad_as_trained,
    read_weights,
    text_settings,
)
from eval.local_models import existing_folder, fingerprint_of, loading, saved_files
from eval.pixels import rgb_image


class SentenceTransformersModel:
    """A SentenceTransformer whose first module takes pictures and strings."""

    def __init__(self, folder: Path, device: str) -> None:
        existing_folder(folder, "modules.json and what it names")
        with loading(f"the sentence-transformers model {folder}", extra="export", place=folder):
            self._model = _read(folder, device)
        self.device = device
        self._config = getattr(self._model[0], "config", None)
        self._is_siglip = getattr(self._config, "model_type", None) in SIGLIP_KINDS
        if self._is_siglip:
            pad_as_trained(self._model.tokenizer, self._config)
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")
        }
        self.fingerprint = fingerprint_of(
            tensors=self._model.state_dict(),
            files=files | saved_files(self._model.processor.save_pretrained),
            settings="sentence_transformers",
        )

    def encode_images(self, pictures: Sequence[Picture]) -> Float[Tensor, "N E"]:
        """Vectors of the pictures, resized and normalised as the folder's processor says."""
        return self._encode([rgb_image(picture) for picture in pictures])

    def encode_texts(self, strings: Sequence[str]) -> Float[Tensor, "N E"]:
        """Vectors of the strings, each the same in whatever company it comes."""
        if not self._is_siglip:
            return self._encode(list(strings))
        texts = canonical_texts(strings, self._config, self._model.tokenizer)
        return self._encode(texts, processing_kwargs={"text": text_settings(self._config)})

    def _encode(self, items: list[Any], **settings: Any) -> Float[Tensor, "N E"]:
        vectors = self._model.encode(
            items,
            batch_size=max(1, len(items)),
            convert_to_tensor=True,
            show_progress_bar=False,
            **settings,
        )
        # They come from torch's inference mode, in which nothing may be done to them outside it.
        return vectors.clone()


def _read(folder: Path, device: str) -> Any:
    """The model, from files on this disk that are data and not code."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder),
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "dtype": torch.float32},
    )
    if not model.supports("image") or not model.supports("text"):
        raise UserError(
            f"the model in {folder} encodes {' and '.join(map(str, model.modalities))}; "
            "give one that encodes text and image"
        )
    if getattr(getattr(model[0], "config", None), "model_type", None) in KINDS:
        # sentence-transformers does not tell when weights are wanting.
        read_weights(folder)
    return model.eval()
