"""The configuration of a run: one tree of plain values, from a recipe, a recorded file, and flags."""

import dataclasses
import difflib
import importlib
import importlib.util
import json
import runpy
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import data_pipelines.packs
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig
from data_pipelines.tokenizers import (
    Canonicalization,
    ClipTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    read_model,
)
from rins_mm.augment import AugmentationConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

FORMAT_VERSION = 1
EMOJI_TOKENIZER = Path(data_pipelines.packs.__path__[0]) / "emoji" / "tokenizer.model"


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How captions become token ids. The context length is the text tower's."""

    kind: Literal["sentencepiece", "clip"] = "sentencepiece"
    """sentencepiece: a .model file; clip: open_clip's byte-pair encoding."""
    model_file: str = "emoji"
    """sentencepiece only: path of a .model file, or emoji for the one that comes with this project."""
    canonicalize: Canonicalization = "lower_no_punctuation"
    """sentencepiece only: lower case, and punctuation removed, before encoding (SigLIP does both)."""
    vocab_size: int = 3_302
    """How many ids the tokenizer has: the size of the text tower's table, checked against the file."""
    pad_token: int | None = None
    """sentencepiece only, seen only where text.padding is siglip: the id that fills rows (1 for SigLIP's weights)."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss and the start of its two parameters."""

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid: SigLIP's; softmax: CLIP's, as a baseline."""
    initial_scale: float = 10.0
    """Start of the factor on cosines; its logarithm is trained."""
    initial_bias: float = -10.0
    """Start of the bias added to scaled cosines: most pairs do not match."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured during training, on all ranks."""

    tasks: tuple[str, ...] = ()
    """Task names, such as zero_shot:emoji-style or retrieval:emoji-val."""
    text_signatures: tuple[str, ...] = ()
    """Depths of the text tower to measure; empty: the trained signature and its forms with fewer rounds."""
    data: str = ""
    """Folder of the pictures, for tasks that need one (zero_shot:imagenet)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run is. A recipe returns one; flags change its leaves; config.json records it."""

    run_dir: str = "runs/unnamed"
    """Folder of the run: configuration, metrics, checkpoints, evaluations."""
    max_steps: int = 1000
    """Length of the run in optimizer steps."""
    batch_size: int = 256
    """Pairs per optimizer step, over all ranks."""
    seed: int = 0
    """Every random choice of the run is a pure function of this number."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay; at least 1."""
    eval_every: int = 0
    """Steps between evaluations; the last step always evaluates; 0: only then."""
    log_every: int = 10
    """Steps between lines of the log."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """fp32, or bf16 autocast in the towers; weights, loss and updates are fp32 either way."""
    num_threads: int = 1
    """CPU threads per rank."""
    timeout_seconds: float = 600.0
    """A rank that hears nothing from the others for this long gives up."""
    ema_decay: float = 0.0
    """Keep an exponential moving average of the weights with this decay per step, and evaluate it; 0: none."""
    tensorboard: bool = False
    """Also write TensorBoard files."""
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def build_tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer that the configuration names, with the text tower's context length."""
    tokenizer = _open_tokenizer(config.tokenizer, config.text.context_length)
    if tokenizer.vocab_size != config.tokenizer.vocab_size:
        raise UserError(
            f"the {config.tokenizer.kind} tokenizer has {tokenizer.vocab_size} ids, not "
            f"{config.tokenizer.vocab_size}; set --tokenizer.vocab-size {tokenizer.vocab_size}"
        )
    return tokenizer


def _open_tokenizer(config: TokenizerConfig, context_length: int) -> Tokenizer:
    if config.kind == "clip":
        return ClipTokenizer(context_length=context_length)
    path = EMOJI_TOKENIZER if config.model_file == "emoji" else Path(config.model_file)
    model = read_model(path)
    try:
        return SentencePieceTokenizer(
            model,
            canonicalize=config.canonicalize,
            context_length=context_length,
            pad_token=config.pad_token,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def recipe_names() -> list[str]:
    """The recipes of the package `configs`."""
    spec = importlib.util.find_spec("configs")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [path for folder in folders or [] for path in Path(folder).glob("*.py")]
    return sorted(path.stem for path in files if path.stem != "__init__")


def load_config(source: str) -> TrainConfig:
    """A recipe by name or by path, the recorded config.json of a run, or a run folder that holds one."""
    if source in recipe_names():
        return _from_recipe(f"configs.{source}", vars(importlib.import_module(f"configs.{source}")))
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json" and path.is_file():
        return read_config(path)
    if path.suffix == ".py" and path.is_file():
        return _from_recipe(source, runpy.run_path(str(path)))
    nearest = difflib.get_close_matches(Path(source).stem, recipe_names(), n=3) or recipe_names()
    raise UserError(
        f"there is no recipe, run folder or file named {source!r}; recipes are {', '.join(nearest)}"
    )


def _from_recipe(source: str, names: Mapping[str, Any]) -> TrainConfig:
    function = names.get("config")
    made = function() if callable(function) else None
    if not isinstance(made, TrainConfig):
        raise UserError(
            f"the recipe {source!r} has no function config() that returns a TrainConfig; "
            "see configs/emoji.py for the form"
        )
    return made


def write_config(config: TrainConfig, path: Path) -> None:
    """Record the resolved configuration."""
    data = {"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}
    # A run without a readable config.json is lost to every later command: whole or not there.
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_text(json.dumps(data, indent=2) + "\n")
    unfinished.replace(path)


def read_config(path: Path) -> TrainConfig:
    """A recorded configuration. It is data: nothing is executed, and unknown names are errors."""
    try:
        data = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise UserError(
            f"cannot read the recorded configuration {path}: {error}; name a run folder whose config.json is whole"
        ) from error
    version = data.pop("format_version", None) if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format_version {version!r}; this version of rins_mm reads {FORMAT_VERSION}"
        )
    try:
        return from_plain(TrainConfig, data)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


T = TypeVar("T")


def from_plain(kind: type[T], data: Mapping[str, Any]) -> T:
    """A configuration from plain data. Raises ValueError for unknown names and values of a wrong type."""
    hints = get_type_hints(kind)
    if unknown := sorted(data.keys() - hints.keys()):
        raise ValueError(f"{kind.__name__} has no field named {', '.join(unknown)}")
    return kind(**{name: _decode(hints[name], value, name) for name, value in data.items()})


def _decode(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _decode(next(arm for arm in arguments if arm is not type(None)), value, name)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_plain(hint, value)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        item_hints = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        if len(item_hints) == len(value):
            return tuple(_decode(h, item, name) for h, item in zip(item_hints, value, strict=True))
    elif origin is Literal and value in arguments:
        return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r}, which is not {getattr(hint, '__name__', hint)}")
