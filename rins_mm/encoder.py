"""A trained model as people use it: pictures and strings in, unit vectors out.

Axes: N items, E the shared embedding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_object
from data_pipelines.plain_values import from_plain
from data_pipelines.resize import resize_picture
from data_pipelines.tokenizers import Tokenizer, load_tokenizer
from eval.encoder import DEFAULT_VARIANT, Picture
from eval.pixels import read_pixels
from rins_mm.checkpoint import (
    Checkpoint,
    load_weights,
    newest_checkpoint,
    open_checkpoint,
    read_tensors,
    require_fitting,
    verify_manifest,
)
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import SigLIP, build_model, unit
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.recorded_config import read_config
from rins_mm.validation import check_towers

NATIVE_FORMAT_VERSION = 1
PICTURES_PER_FORWARD = 64
STRINGS_PER_FORWARD = 64


class SigLIPEncoder:
    """Both encoders of a model with everything they need: tokenizer, canonicalisation, resizing.

    `signature` and `image_signature` are the depths of the text tower and of the image tower that are
    used where none is named: those that it was trained with.
    """

    def __init__(self, model: SigLIP, tokenizer: Tokenizer, *, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.signature = model.text_tower.config.recursion.signature
        self.image_signature = model.image_tower.config.recursion.signature

    @cached_property
    def fingerprint(self) -> str:
        """A hash of weights, configuration and tokenizer."""
        digest = hashlib.sha256(self.tokenizer.fingerprint.encode())
        digest.update(repr((self.model.image_tower.config, self.model.text_tower.config)).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            # Flat, because a tensor without axes cannot be seen as bytes.
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.logit_scale.device

    def encode_images(
        self, pictures: Sequence[Picture], signature: str | None = None
    ) -> Float[Tensor, "N E"]:
        """Unit vectors of pictures, at the trained depth or at the depth of another signature.

        Pictures are PIL images, uint8 RGB arrays [H, W, 3], or paths. Raises UserError for a file that
        is not a picture.
        """
        signature = self.image_signature if signature is None else signature
        return self.encode_images_at(pictures, [signature])[signature]

    @torch.no_grad()
    def encode_images_at(
        self,
        pictures: Sequence[Picture],
        signatures: Sequence[str],
        *,
        at_once: int = PICTURES_PER_FORWARD,
    ) -> dict[str, Float[Tensor, "N E"]]:
        """Unit vectors at several depths; pictures are read once, and rounds that depths share run once.

        `at_once` pictures make a batch of the tower.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            raise TypeError("encode_images takes a list of pictures, not one picture")
        self.model.eval()
        signatures = list(dict.fromkeys(signatures))
        variants = [expand(signature) for signature in signatures]
        size = self.model.image_tower.config.image_size
        rows: dict[str, list[Tensor]] = {signature: [] for signature in signatures}
        for start in range(0, len(pictures), at_once):
            chunk = pictures[start : start + at_once]
            pixels = torch.stack([resize_picture(read_pixels(picture), size) for picture in chunk])
            images = pixels.to(self.device).float() / 255.0
            outputs = self.model.image_tower.forward_variants(images, variants)
            for signature, output in zip(signatures, outputs, strict=True):
                rows[signature].append(unit(output))
        return {s: torch.cat(parts) if parts else self._no_rows() for s, parts in rows.items()}

    def encode_texts(
        self, strings: Sequence[str], signature: str | None = None
    ) -> Float[Tensor, "N E"]:
        """Unit vectors of strings, at the trained depth or at the depth of another signature."""
        signature = self.signature if signature is None else signature
        return self.encode_texts_at(strings, [signature])[signature]

    @torch.no_grad()
    def encode_texts_at(
        self,
        strings: Sequence[str],
        signatures: Sequence[str],
        *,
        at_once: int = STRINGS_PER_FORWARD,
    ) -> dict[str, Float[Tensor, "N E"]]:
        """Unit vectors at several depths in one pass: rounds that they share run once.

        `at_once` strings make a batch of the tower.
        """
        if isinstance(strings, str):
            raise TypeError("encode_texts takes a list of strings, not one string")
        self.model.eval()
        signatures = list(dict.fromkeys(signatures))
        variants = [expand(signature) for signature in signatures]
        rows: dict[str, list[Tensor]] = {signature: [] for signature in signatures}
        for start in range(0, len(strings), at_once):
            ids = self.tokenizer.encode(strings[start : start + at_once])
            lengths = torch.tensor([0, *map(len, ids)])
            tokens = torch.tensor([token for row in ids for token in row], dtype=torch.int32)
            outputs = self.model.text_tower.forward_variants(
                tokens.to(self.device), lengths.cumsum(0).int(), variants
            )
            for signature, output in zip(signatures, outputs, strict=True):
                rows[signature].append(unit(output))
        return {s: torch.cat(parts) if parts else self._no_rows() for s, parts in rows.items()}

    def _no_rows(self) -> Tensor:
        return torch.zeros(0, self.model.image_tower.embedding_width, device=self.device)

    def as_dual_encoder(self) -> "SignatureEncoder":
        """The form that `eval` scores."""
        return SignatureEncoder(self)


class SignatureEncoder:
    """A SigLIPEncoder as an `eval.encoder.DualEncoder` whose variants are signatures of its towers.

    What it is given at once runs at once, so that the caller decides on the batches.
    """

    def __init__(self, encoder: SigLIPEncoder) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self.fingerprint = encoder.fingerprint
        self.device = encoder.device

    def encode_images(
        self, pictures: Sequence[Picture], variants: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "N E"]]:
        """Unit vectors of the pictures at each signature of the image tower."""
        signature_of = _signatures(variants, self._encoder.image_signature)
        vectors = self._encoder.encode_images_at(
            pictures, list(signature_of.values()), at_once=max(1, len(pictures))
        )
        return {variant: vectors[signature] for variant, signature in signature_of.items()}

    def encode_texts(
        self, strings: Sequence[str], variants: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "N E"]]:
        """Unit vectors of the strings at each signature of the text tower."""
        signature_of = _signatures(variants, self._encoder.signature)
        vectors = self._encoder.encode_texts_at(
            strings, list(signature_of.values()), at_once=max(1, len(strings))
        )
        return {variant: vectors[signature] for variant, signature in signature_of.items()}


def _signatures(variants: Sequence[str], trained: str) -> dict[str, str]:
    """The signature of each variant: its name, or the trained one for the default."""
    return {variant: trained if variant == DEFAULT_VARIANT else variant for variant in variants}


def load_encoder(folder: Path, *, device: str = "cpu") -> SigLIPEncoder:
    """The encoder of an export, of a checkpoint, or of a run's newest checkpoint (its averaged weights, if any)."""
    if (folder / "encoder.json").is_file():
        encoder = _load_native(folder)
    elif (folder / "state.json").is_file():
        encoder = encoder_of_run(folder.resolve().parent.parent, open_checkpoint(folder))
    elif (folder / "config.json").is_file():
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            raise UserError(f"the run {folder} has no checkpoint yet; train it further")
        encoder = encoder_of_run(folder, checkpoint)
    else:
        raise UserError(
            f"{folder} is neither a run nor an export; name a folder that train or export has written"
        )
    encoder.model.to(device)
    return encoder


def encoder_of_run(run_dir: Path, checkpoint: Checkpoint) -> SigLIPEncoder:
    """The encoder of one checkpoint of a run."""
    config = read_config(run_dir / "config.json")
    tokenizer = load_tokenizer(run_dir / "tokenizer")
    weights = checkpoint.model_weights(averaged=True)
    model = _model_of(config.image, config.text, tokenizer, weights, checkpoint.folder)
    return SigLIPEncoder(model, tokenizer, name=f"{run_dir.resolve().name}@{checkpoint.step}")


def _load_native(folder: Path) -> SigLIPEncoder:
    verify_manifest(folder)
    data = read_plain_object(folder / "encoder.json")
    try:
        version, name = data["format_version"], str(data["name"])
        if version != NATIVE_FORMAT_VERSION:
            raise UserError(
                f"{folder} has format_version {version!r}; "
                f"this version of rins_mm reads {NATIVE_FORMAT_VERSION}"
            )
        image = from_plain(ImageTowerConfig, data["image"])
        text = from_plain(TextTowerConfig, data["text"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'encoder.json'} is not readable: {error!r}; export it again"
        ) from error
    tokenizer = load_tokenizer(folder)
    weights = read_tensors(folder / "model.safetensors")
    model = _model_of(image, text, tokenizer, weights, folder)
    return SigLIPEncoder(model, tokenizer, name=name)


def _model_of(
    image: ImageTowerConfig,
    text: TextTowerConfig,
    tokenizer: Tokenizer,
    weights: Mapping[str, Tensor],
    source: Path,
) -> SigLIP:
    """The model with these weights. Anybody may have described it, so it is measured against them first."""
    build = partial(
        build_model,
        image,
        text,
        vocab_size=tokenizer.vocab_size,
        pad_token=tokenizer.pad_token,
        seed=0,
    )
    try:
        check_towers(image, text, most_blocks=len(weights))
        # Shapes alone: a description may name any number as a width.
        with torch.device("meta"):
            own = build().state_dict()
    except UserError as error:
        raise UserError(f"{source} describes no model that can be built: {error}") from error
    require_fitting(own, weights, source)
    model = build().eval()
    load_weights(model, weights, source)
    return model
