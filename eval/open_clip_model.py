"""Models of open_clip from files on this disk: a model name with its weights, or a folder that has all.

open_clip knows how the pictures of its published weights are prepared, but forgets it when the weights
come from a file: SigLIP would get CLIP's colours and crop. Here the preparation goes with the model.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.errors import UserError
from eval.encoder import Picture
from eval.local_models import existing_folder, fingerprint_of, loading, saved_files
from eval.pixels import rgb_image

FOLDER_NAME = "local-dir"
PREPARATION = ("mean", "std", "interpolation", "resize_mode")
WEIGHT_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".npz")
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "spiece.model")


class OpenClipModel:
    """A model in float32 with the tokenizer and the preparation of pictures that belong to it."""

    def __init__(self, model_name: str, place: Path, device: str) -> None:
        """`model_name` is one of open_clip's, and `place` its weights; or it is "local-dir" and a folder."""
        with loading(f"open_clip:{model_name}:{place}", extra="hf", place=place):
            read = _read_folder if model_name == FOLDER_NAME else _read_weights
            self._model, self._tokenizer, settings = read(model_name, place)
            from open_clip.transform import PreprocessCfg, image_transform_v2

            preparation = self._model.visual.preprocess_cfg
            self._prepare = image_transform_v2(PreprocessCfg(**preparation), is_train=False)
        self._model.to(device).eval()
        self.device = device
        self.fingerprint = fingerprint_of(
            tensors=self._model.state_dict(),
            files=_vocabulary(self._tokenizer),
            settings=[settings, preparation],
        )

    @torch.no_grad()
    def encode_images(self, pictures: Sequence[Picture]) -> Float[Tensor, "N E"]:
        """Vectors of the pictures, prepared as for the published weights or as the folder says."""
        images = torch.stack([self._prepare(rgb_image(picture)) for picture in pictures])
        return self._model.encode_image(images.to(self.device))

    @torch.no_grad()
    def encode_texts(self, strings: Sequence[str]) -> Float[Tensor, "N E"]:
        """Vectors of the strings; open_clip's tokenizers pad all of them to the model's context."""
        if isinstance(strings, str):
            raise TypeError("encode_texts takes a list of strings, not one string")
        tokens = self._tokenizer(list(strings)).to(self.device)
        if not _reads_the_end_token(self._model):
            return self._model.encode_text(tokens)
        return _encode_to_the_end_token(self._model, tokens)


def _read_folder(model_name: str, folder: Path) -> tuple[Any, Any, Any]:
    """What open_clip saved or published as one folder: open_clip_config.json, weights, tokenizer."""
    import open_clip

    existing_folder(folder, "open_clip_config.json, weights and a tokenizer")
    name = f"{model_name}:{folder}"
    config = open_clip.get_model_config(name)
    # First, because a model takes much longer to make.
    tokenizer = _tokenizer(name, config, folder)
    model = open_clip.create_model(name, require_pretrained=True, weights_only=True)
    return model, tokenizer, config


def _read_weights(model_name: str, place: Path) -> tuple[Any, Any, Any]:
    """A model of open_clip's list with the weights in a file, or in a folder that has one such file."""
    import open_clip

    config = open_clip.get_model_config(model_name)
    if config is None:
        nearest = difflib.get_close_matches(model_name, open_clip.list_models(), n=1, cutoff=0.4)
        guess = f"did you mean {nearest[0]}? " if nearest else ""
        raise UserError(
            f"open_clip has no model {model_name!r}; {guess}For a folder with an "
            f"open_clip_config.json write open_clip:{FOLDER_NAME}:FOLDER"
        )
    weights = _weights_file(place)
    tokenizer = _tokenizer(model_name, config, weights.parent)
    model = open_clip.create_model(
        model_name,
        # The whole path, so that it is never taken for the name of weights to download.
        pretrained=str(weights.resolve()),
        force_preprocess_cfg=_published_preparation(model_name),
        require_pretrained=True,
        weights_only=True,
    )
    return model, tokenizer, config


def _weights_file(place: Path) -> Path:
    if place.is_file():
        return place
    if not place.is_dir():
        raise UserError(
            f"there is no file {place}; weights are read from this disk and not downloaded: "
            "give the path of a .safetensors or .pt file"
        )
    for ending in WEIGHT_ENDINGS:
        found = sorted(place.glob(f"*{ending}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{place} holds {len(found)} {ending} files: "
                f"{', '.join(path.name for path in found[:5])}; name the one with the weights"
            )
    raise UserError(f"{place} holds no weights; give the path of a .safetensors or .pt file")


def _published_preparation(model_name: str) -> dict[str, Any]:
    """How pictures are prepared for all published weights of this model."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    published = [
        get_pretrained_cfg(model_name, tag) for tag in list_pretrained_tags_by_model(model_name)
    ]
    ways = [
        {name: config[name] for name in PREPARATION if config.get(name) is not None}
        for config in published
    ]
    if any(way != ways[0] for way in ways):
        raise UserError(
            f"open_clip prepares pictures in several ways for {model_name}, by weights; lay "
            f"open_clip_config.json beside these, and write open_clip:{FOLDER_NAME}:FOLDER"
        )
    return ways[0] if ways else {}


def _tokenizer(name: str, config: Mapping[str, Any], folder: Path) -> Any:
    """The model's tokenizer: open_clip's own for CLIP, else from the folder or the hub's cache."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    text = config["text_cfg"]
    on_hub = text.get("hf_tokenizer_name")
    if not on_hub:
        return open_clip.get_tokenizer(name)
    in_folder = any((folder / file).is_file() for file in TOKENIZER_FILES)
    settings = {
        **text.get("tokenizer_kwargs", {}), "local_files_only": True, "trust_remote_code": False,
    }  # fmt: skip
    try:
        tokenizer = HFTokenizer(
            str(folder) if in_folder else on_hub,
            context_length=text.get("context_length", 77),
            tokenizer_mode=text.get("tokenizer_mode"),
            **settings,
        )
    except OSError as error:
        raise UserError(
            f"the tokenizer of {name} is {on_hub} on the hub, and not on this disk; put its files "
            f"({', '.join(TOKENIZER_FILES[:2])}) into {folder}"
        ) from error
    # SigLIP's towers read the last place of the row, which must be the padding's, as in training.
    tokenizer.tokenizer.padding_side = "right"
    return tokenizer


def _reads_the_end_token(model: Any) -> bool:
    """Whether a text's vector is the one at its end token, which sees only what stands before."""
    import open_clip

    return (
        type(model) is open_clip.CLIP
        and model.attn_mask is not None
        and (model.text_pool_type == "argmax")
    )


def _encode_to_the_end_token(model: Any, tokens: Int64[Tensor, "N L"]) -> Float[Tensor, "N E"]:
    """The same vectors from rows that are cut behind the last of their end tokens.

    Most captions fill a fifth of CLIP's 77 places, and a causal tower's vector at one place does not
    depend on what follows.
    """
    # The end token is the highest of all; open_clip finds it in the same way.
    length = int(tokens.argmax(dim=-1).max()) + 1
    shorter = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    return functional_call(model, shorter, kwargs={"text": tokens[:, :length]})[1]


def _vocabulary(tokenizer: Any) -> dict[str, bytes]:
    if hasattr(tokenizer, "save_pretrained"):
        return saved_files(tokenizer.save_pretrained)
    return {"vocabulary": repr(sorted(tokenizer.encoder.items())).encode()}
