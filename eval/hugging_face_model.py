"""SigLIP, SigLIP 2 and CLIP in a Hugging Face folder, with the padding that their weights were made for.

SigLIP's text towers read the last of a fixed number of positions, and attend to the padding. With less
padding, or with a mask over it, they give other vectors and no error.
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
from eval.local_models import MAX_SIDE, existing_folder, fingerprint_of, loading, saved_files
from eval.pixels import rgb_image

SIGLIP_KINDS = ("siglip", "siglip2")
KINDS = (*SIGLIP_KINDS, "clip")
"""The model_type of config.json. The smaller releases of SigLIP 2 call themselves siglip."""
SAFE = {"local_files_only": True, "trust_remote_code": False}


class HuggingFaceModel:
    """A folder that transformers has saved: config, safetensors, tokenizer, image processor."""

    def __init__(self, folder: Path, device: str) -> None:
        existing_folder(folder, "config.json, model.safetensors, a tokenizer and a processor")
        with loading(f"the Hugging Face model {folder}", extra="hf", place=folder):
            self._model, processor = _read(folder)
            files = saved_files(processor.save_pretrained)
        self._image_processor, self._tokenizer = processor.image_processor, processor.tokenizer
        self._model.to(device).eval()
        self.device = device
        self.fingerprint = fingerprint_of(
            tensors=self._model.state_dict(),
            files=files,
            settings=plain_config(self._model.config),
        )

    @torch.no_grad()
    def encode_images(self, pictures: Sequence[Picture]) -> Float[Tensor, "N E"]:
        """Vectors of the pictures, resized and normalised as the folder's image processor says."""
        images = [rgb_image(picture) for picture in pictures]
        inputs = self._image_processor(images=images, return_tensors="pt").to(self.device)
        return self._model.get_image_features(**inputs).pooler_output

    @torch.no_grad()
    def encode_texts(self, strings: Sequence[str]) -> Float[Tensor, "N E"]:
        """Vectors of the strings, each the same in whatever company it comes."""
        texts = canonical_texts(strings, self._model.config, self._tokenizer)
        inputs = self._tokenizer(
            texts, return_tensors="pt", **text_settings(self._model.config)
        ).to(self.device)
        return self._model.get_text_features(**inputs).pooler_output


def _read(folder: Path) -> tuple[Any, Any]:
    """The model and its processor, from files on this disk that are data and not code."""
    from transformers import AutoProcessor

    model = read_weights(folder)
    processor = AutoProcessor.from_pretrained(folder, **SAFE)
    for part in ("image_processor", "tokenizer"):
        if not hasattr(processor, part):
            raise UserError(f"{folder} holds no {part}; give a complete copy of the model")
    sides = [
        side
        for name in ("size", "crop_size")
        for side in dict(getattr(processor.image_processor, name, None) or {}).values()
        if isinstance(side, int)
    ]
    if max(sides, default=0) > MAX_SIDE:
        raise UserError(
            f"the image processor in {folder} makes pictures of {max(sides):,} pixels; {MAX_SIDE:,} is the limit"
        )
    pad_as_trained(processor.tokenizer, model.config)
    return model, processor


def read_weights(folder: Path) -> Any:
    """The model of the folder in float32, whole. Raises UserError where a tensor is wanting."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, **SAFE)
    if config.model_type not in KINDS:
        raise UserError(
            f"{folder} holds a model of the kind {config.model_type!r}; "
            f"this program reads {', '.join(KINDS)}"
        )
    model, found = AutoModel.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **SAFE
    )
    wanting = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if wanting:
        # transformers would fill them at random, and only warn.
        raise UserError(
            f"the weights in {folder} lack {len(wanting)} tensors of the model that its config.json "
            f"describes, such as {wanting[0]}; give a complete copy of it"
        )
    return model


def pad_as_trained(tokenizer: Any, config: Any) -> None:
    """SigLIP's and CLIP's text towers count positions from the first token, whatever a folder's settings say.

    Those of this project may count from the last, with masked padding before the caption.
    """
    tokenizer.padding_side = "left" if masks_padding(config) else "right"


def masks_padding(config: Any) -> bool:
    """Whether the folder holds a text tower of this project that never sees padding."""
    return (getattr(config, "rins_mm", None) or {}).get("text_padding") == "masked"


def text_settings(config: Any) -> dict[str, Any]:
    """How a tokenizer must be called for a model of this kind."""
    length = config.text_config.max_position_embeddings
    if config.model_type in SIGLIP_KINDS:
        return {
            "padding": "max_length",
            "max_length": length,
            "truncation": True,
            "return_attention_mask": masks_padding(config),
        }
    # CLIP sees nothing behind the end token, so that the width of the padding changes no vector.
    return {
        "padding": "longest",
        "max_length": length,
        "truncation": True,
        "return_attention_mask": True,
    }


def canonical_texts(strings: Sequence[str], config: Any, tokenizer: Any) -> list[str]:
    """The strings in lower case for SigLIP 2, whose training saw no other.

    The tokenizers of SigLIP, of CLIP and of this project do on their own what their models need.
    """
    if isinstance(strings, str):
        raise TypeError("encode_texts takes a list of strings, not one string")
    knows_its_form = type(tokenizer).__name__.startswith("SiglipTokenizer") or hasattr(
        config, "rins_mm"
    )
    if config.model_type in SIGLIP_KINDS and not knows_its_form:
        return [string.lower() for string in strings]
    return list(strings)


def plain_config(config: Any) -> dict[str, Any]:
    """The configuration without what names the place and the program that wrote it."""
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in ("_name_or_path", "transformers_version")
    }
