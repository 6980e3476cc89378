"""A run that begins with weights that were trained before, here or elsewhere."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from data_pipelines.errors import UserError
from data_pipelines.tokenizers import Tokenizer, read_model
from data_pipelines.words import tell
from eval.texts import cause_against
from rins_mm.checkpoint import load_weights, weights
from rins_mm.config import EMOJI_TOKENIZER, InitConfig, TokenizerConfig, TrainConfig
from rins_mm.encoder import load_encoder
from rins_mm.models.image_tower import settings_of_backbone
from rins_mm.models.siglip import SigLIP
from rins_mm.weights.fit import FitReport, fit
from rins_mm.weights.sources import Loaded, is_foreign, load

MAY_DIFFER = frozenset({"recursion", "checkpoint_calls", "packing", "drop_path", "patch_dropout"})
"""Settings of a tower under which the same weights give the same vectors at the same calls."""

MENDS = {
    "image.num_heads": "--image.num-heads", "image.gelu": "--image.gelu", "image.mean": "--image.mean",
    "image.std": "--image.std", "text.num_heads": "--text.num-heads", "text.gelu": "--text.gelu",
}  # fmt: skip
"""The flags of settings that must be those of the weights."""


def begin_with(model: SigLIP, tokenizer: Tokenizer, config: TrainConfig) -> list[FitReport]:
    """Copy the weights that `config.init` names into a fresh model; what became of each source.

    Weights of this project need the same towers up to recursion; adapters that a source lacks stay as
    they are, so that AB gives the source's vectors bit for bit. A UserError names what does not fit.
    """
    init = config.init
    named = {"model": init.model, "image": init.image, "text": init.text}
    named = {part: source for part, source in named.items() if source}
    reports = []
    for part, source in named.items():
        loaded = (
            _load_ours(model, tokenizer, part, Path(source))
            if not is_foreign(source)
            else _load_theirs(model, tokenizer, config.tokenizer, part, source)
        )
        fitted, report = fit(
            model,
            loaded.tensors,
            part=part,
            source=source,
            strict=init.strict,
            may_be_left=loaded.may_be_left,
        )
        load_weights(model, weights(model) | fitted, Path(source))
        reports.append(report)
    return reports


def record_fits(run_dir: Path, reports: Sequence[FitReport]) -> None:
    """Print what became of the weights of each source, and keep it in the run's folder."""
    if reports:
        rows = [dataclasses.asdict(report) for report in reports]
        (run_dir / "initial_weights.json").write_text(json.dumps(rows, indent=2) + "\n")
    for report in reports:
        tell(report.line())


def describe_init(init: InitConfig) -> str:
    """What a run begins with, for its opening line; "" where all is fresh and trained."""
    sources = [source for source in (init.model, init.image, init.text) if source]
    begin = f", beginning with {' and '.join(sources)}" if sources else ""
    if not init.lock_image:
        return begin
    block = init.unlock_from_block
    return f"{begin}, image tower locked" + (f" up to block {block}" if block is not None else "")


def _load_ours(model: SigLIP, tokenizer: Tokenizer, part: str, source: Path) -> Loaded:
    """The weights of a folder of this project, whose towers must be the same up to recursion."""
    trained = load_encoder(source)
    where = f"init.{part} {source}"
    if part != "image":
        _check_same("tokenizer", trained.tokenizer.fingerprint, tokenizer.fingerprint, where)
    for name, theirs, ours in (
        ("image", trained.model.image_tower.config, model.image_tower.config),
        ("text", trained.model.text_tower.config, model.text_tower.config),
    ):
        for field in dataclasses.fields(ours):
            if part in ("model", name) and field.name not in MAY_DIFFER:
                values = getattr(theirs, field.name), getattr(ours, field.name)
                _check_same(f"{name}.{field.name}", *values, where)
    return Loaded(tensors=weights(trained.model), settings={})


def _load_theirs(
    model: SigLIP, tokenizer: Tokenizer, config: TokenizerConfig, part: str, source: str
) -> Loaded:
    """The weights of somebody else, which must have been trained with these settings and this tokenizer."""
    loaded = load(source)
    where = f"init.{part} {source}"
    if part != "image":
        if not loaded.has_text:
            raise UserError(f"{where} has no text tower; name it with --init.image")
        _check_tokenizer(model, tokenizer, config, loaded, where)
    own = _settings_of(model)
    for name, theirs in loaded.settings.items():
        if name in own and (part == "model" or name.startswith(f"{part}.")):
            _check_same(name, theirs, own[name], where, MENDS.get(name, ""))
    return loaded


def _settings_of(model: SigLIP) -> dict[str, Any]:
    image, text = model.image_tower, model.text_tower
    return {
        **settings_of_backbone(image.backbone),
        "image.mean": image.config.mean,
        "image.std": image.config.std,
        "text.num_heads": text.config.num_heads,
        "text.gelu": text.config.gelu,
        "text.norm_epsilon": text.norm.eps,
    }


def _check_tokenizer(
    model: SigLIP, tokenizer: Tokenizer, config: TokenizerConfig, loaded: Loaded, where: str
) -> None:
    """Refuse a text tower whose token ids, or whose padding, would mean something else here."""
    padding = model.text_tower.config.padding
    if padding != "siglip":
        raise UserError(
            f"{where} was trained on padding that is attended, and text.padding is {padding!r}; "
            "set --text.padding siglip"
        )
    table = loaded.tensors.get("text_tower.token_embedding.weight")
    num_ids = 0 if table is None or not table.ndim else len(table)
    if table is not None and num_ids != tokenizer.vocab_size:
        raise UserError(
            f"{where} has {num_ids} token ids, and the tokenizer of this run {tokenizer.vocab_size}; give the "
            "tokenizer of the weights with --tokenizer.model-file and --tokenizer.vocab-size"
        )
    file = EMOJI_TOKENIZER if config.model_file == "emoji" else Path(config.model_file)
    theirs = loaded.tokenizer_model
    if theirs is None and (config.kind != "sentencepiece" or config.model_file == "emoji"):
        raise UserError(
            f"{where} comes without a sentencepiece model, and the tokenizer of this run is this project's own; "
            "give the one that the weights were trained with: --tokenizer.model-file FILE.model"
        )
    if theirs is None:
        return
    if config.kind != "sentencepiece" or read_model(file) != read_model(theirs):
        raise UserError(
            f"{where} was trained with the tokenizer {theirs}, and this run has {file}; "
            f"set --tokenizer.model-file {theirs}"
        )
    _check_pad_token(tokenizer, loaded.tokenizer_settings, theirs, where)


def _check_pad_token(
    tokenizer: Tokenizer, settings: Mapping[str, Any], file: Path, where: str
) -> None:
    """Refuse rows that would be filled by another token than those of training."""
    named = settings.get("pad_token")
    piece = named.get("content") if isinstance(named, dict) else named
    if not isinstance(piece, str):
        return
    if cause := cause_against(piece):
        raise UserError(
            f"{where} fills rows with {piece[:60]!r}, which is no token ({cause}); mend pad_token in "
            "tokenizer_config.json"
        )
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(read_model(file))
    expected = processor.piece_to_id(piece)
    if tokenizer.pad_token != expected:
        raise UserError(
            f"{where} fills rows with the token {piece} ({expected}), and this run with {tokenizer.pad_token}; "
            f"set --tokenizer.pad-token {expected}"
        )


def _check_same(name: str, theirs: Any, ours: Any, where: str, flag: str = "") -> None:
    if theirs != ours:
        value = theirs if isinstance(theirs, str) else repr(theirs).strip("()").replace(",", "")
        mend = (
            f"set {flag} {value}" if flag else "make them the same, or begin without these weights"
        )
        raise UserError(
            f"{where} was trained with {name} {theirs!r}, and this run has {ours!r}; {mend}"
        )
