"""Strings to token ids. A tokenizer is frozen, travels with the model, and has a fingerprint.

Ids come canonicalised, truncated and closed by the end token, never padded: padding is a text
tower's business.
"""

import hashlib
import json
import os
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import sentencepiece

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json

Canonicalization = Literal["none", "lower", "lower_no_punctuation", "bag_of_words"]

FORMAT_VERSION = 1
MAX_MODEL_BYTES = 64 * 2**20
"""No sentencepiece model in use comes near; a larger file is something else."""
MAX_SETTINGS_BYTES = 2**16
"""Of a file of settings."""

# The one vocabulary that CLIP has (bpe_simple_vocab_16e6.txt.gz).
CLIP_VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SETTINGS_NAME = "tokenizer.json"
_MODEL_NAME = "tokenizer.model"


@runtime_checkable
class Tokenizer(Protocol):
    """What the data engine and the text towers need of a tokenizer."""

    @property
    def context_length(self) -> int:
        """Most ids in a row, the end token included."""
        ...

    @property
    def vocab_size(self) -> int:
        """All ids are smaller."""
        ...

    @property
    def end_token(self) -> int:
        """The id that closes every row."""
        ...

    @property
    def pad_token(self) -> int:
        """The id with which a tower that attends to padding fills its rows."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the model and of every setting: equal fingerprints give equal ids."""
        ...

    def encode(self, strings: Sequence[str]) -> list[list[int]]:
        """One row of ids for each string: `context_length` at most, the last one the end token."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load_tokenizer` needs into the folder."""
        ...


def load_tokenizer(folder: Path, *, context_length: int | None = None) -> Tokenizer:
    """The tokenizer that was saved in the folder; its bytes are data and are never executed.

    `context_length` replaces the saved one.
    """
    try:
        described = read_plain_json(folder / _SETTINGS_NAME, MAX_SETTINGS_BYTES)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no {_SETTINGS_NAME}; give the folder of a saved tokenizer"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / _SETTINGS_NAME} is not JSON as it should be ({error}); save the tokenizer again"
        ) from error
    version = described.get("format_version") if isinstance(described, dict) else None
    # True is equal to 1.
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{folder / _SETTINGS_NAME} has format version {version!r}, and this program reads "
            f"version {FORMAT_VERSION}; save the tokenizer again"
        )
    model = read_model(folder / _MODEL_NAME)
    settings = described.get("settings")
    try:
        if context_length is not None:
            settings = {**settings, "context_length": context_length}
        if described.get("kind") == "sentencepiece":
            return SentencePieceTokenizer(model, **settings)
        if described.get("kind") == "clip":
            _check_clip_vocabulary(model, folder / _MODEL_NAME)
            return ClipTokenizer(**settings)
    except TypeError as error:
        raise UserError(
            f"{folder / _SETTINGS_NAME} has unknown or missing settings: {settings!r}"
        ) from error
    raise UserError(
        f"{folder / _SETTINGS_NAME} is of the unknown kind {described.get('kind')!r}; "
        "this program reads 'sentencepiece' and 'clip'"
    )


def read_model(path: Path) -> bytes:
    """The bytes of a tokenizer's model file, if it is there and of a sane size."""
    if not path.is_file():
        raise UserError(
            f"there is no tokenizer model {path}; give the path of a sentencepiece .model file"
        )
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise UserError(
            f"{path} is larger than {MAX_MODEL_BYTES:,} bytes; it is no tokenizer model"
        )
    return path.read_bytes()


def canonical(text: str, canonicalize: Canonicalization) -> str:
    """The text as the tokenizer sees it.

    "lower_no_punctuation" is SigLIP's form: lower case, underscores as spaces, no ASCII
    punctuation, single spaces. "bag_of_words" then sorts the words, so that nothing that reads it
    can know their order: a control for what order is worth. Half surrogate pairs, which no encoder
    can write, become question marks in any form.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    if canonicalize == "none":
        return text
    if canonicalize == "lower":
        return text.lower()
    words = text.replace("_", " ").translate(_PUNCTUATION).lower().split()
    return " ".join(sorted(words) if canonicalize == "bag_of_words" else words)


class SentencePieceTokenizer:
    """A sentencepiece model with one end token and no start token, as SigLIP uses it."""

    def __init__(
        self,
        model: bytes,
        *,
        canonicalize: Canonicalization,
        context_length: int,
        pad_token: int | None = None,
    ) -> None:
        """`pad_token` None takes the model's own, or its end token where it has none.

        SigLIP's published weights pad with the end token, 1, although their model names another.
        """
        _check_context_length(context_length)
        if canonicalize not in get_args(Canonicalization):
            raise UserError(
                f"canonicalize is {canonicalize!r}; "
                f"it must be one of {', '.join(get_args(Canonicalization))}"
            )
        self._model = model
        self._processor = _load_sentencepiece(model)
        self._settings = {
            "canonicalize": canonicalize,
            "context_length": context_length,
            "pad_token": pad_token,
        }
        self.canonicalize: Canonicalization = canonicalize
        self.context_length = context_length
        self.vocab_size: int = self._processor.vocab_size()
        self.end_token: int = self._processor.eos_id()
        own_pad_token = self._processor.pad_id()
        self.pad_token: int = own_pad_token if own_pad_token >= 0 else self.end_token
        if pad_token is not None:
            if type(pad_token) is not int or not 0 <= pad_token < self.vocab_size:
                raise UserError(
                    f"pad_token is {pad_token!r}; the model has ids 0 to {self.vocab_size - 1}"
                )
            self.pad_token = pad_token
        self.fingerprint = _fingerprint("sentencepiece", self._settings, model)

    @property
    def model(self) -> bytes:
        """The sentencepiece model file."""
        return self._model

    def encode(self, strings: Sequence[str]) -> list[list[int]]:
        """One row of ids for each string: `context_length` at most, the last one the end token."""
        _refuse_one_string(strings)
        texts = [canonical(text, self.canonicalize) for text in strings]
        rows = [self._processor.encode(text, out_type=int) for text in texts]
        return [[*row[: self.context_length - 1], self.end_token] for row in rows]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.model` and `tokenizer.json` into the folder."""
        _save(folder, "sentencepiece", self._settings, self._model)


class ClipTokenizer:
    """CLIP's byte-pair encoding: a start token, the words, an end token."""

    def __init__(self, *, context_length: int = 77) -> None:
        _check_context_length(context_length, least=2)
        # open_clip imports timm and torchvision: seconds that no other tokenizer should cost.
        from data_pipelines import torchvision_cpu  # noqa: F401, I001
        from open_clip.tokenizer import SimpleTokenizer, default_bpe

        vocabulary = Path(default_bpe())
        self._model = vocabulary.read_bytes()
        _check_clip_vocabulary(self._model, vocabulary)
        self._bpe = SimpleTokenizer(str(vocabulary), context_length=context_length)
        self._settings = {"context_length": context_length}
        self.context_length = context_length
        self.vocab_size: int = self._bpe.vocab_size
        self.start_token: int = self._bpe.sot_token_id
        self.end_token: int = self._bpe.eot_token_id
        self.pad_token = 0
        self.fingerprint = _fingerprint("clip", self._settings, self._model)

    def encode(self, strings: Sequence[str]) -> list[list[int]]:
        """One row of ids for each string: the start token, the words, and always the end token."""
        _refuse_one_string(strings)
        rows = [self._bpe.encode(canonical(text, "none")) for text in strings]
        return [[self.start_token, *row[: self.context_length - 2], self.end_token] for row in rows]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.model` (the vocabulary) and `tokenizer.json` into the folder."""
        _save(folder, "clip", self._settings, self._model)


def _load_sentencepiece(model: bytes) -> sentencepiece.SentencePieceProcessor:
    if not 0 < len(model) <= MAX_MODEL_BYTES:
        raise UserError(
            f"the tokenizer model has {len(model):,} bytes; "
            f"a sentencepiece model has 1 to {MAX_MODEL_BYTES:,}"
        )
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
        processor.encode("a", out_type=int)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "the tokenizer model is no sentencepiece model; train one with "
            "`python -m data_pipelines.prepare.train_tokenizer`"
        ) from error
    if processor.eos_id() < 0:
        raise UserError(
            "the sentencepiece model has no end token (eos_id is disabled); train it with one, "
            "since every caption is closed by it"
        )
    return processor


def _check_clip_vocabulary(vocabulary: bytes, path: Path) -> None:
    if hashlib.sha256(vocabulary).hexdigest() != CLIP_VOCABULARY_SHA256:
        raise UserError(
            f"{path} is not CLIP's vocabulary (its SHA-256 differs); save the tokenizer again"
        )


def _check_context_length(context_length: int, least: int = 1) -> None:
    if (
        isinstance(context_length, bool)
        or not isinstance(context_length, int)
        or context_length < least
    ):
        raise UserError(
            f"context_length is {context_length!r}; it must be a whole number of at least {least}"
        )


def _refuse_one_string(strings: Sequence[str]) -> None:
    # A string is a sequence of strings too; its letters would be encoded one by one.
    if isinstance(strings, str):
        raise TypeError("encode takes a list of strings, not one string")


def _fingerprint(kind: str, settings: Mapping[str, Any], model: bytes) -> str:
    identity = {"kind": kind, "model": hashlib.sha256(model).hexdigest(), **settings}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _save(folder: Path, kind: str, settings: Mapping[str, Any], model: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    described = {"format_version": FORMAT_VERSION, "kind": kind, "settings": settings}
    _replace(folder / _MODEL_NAME, model)
    _replace(folder / _SETTINGS_NAME, json.dumps(described, indent=2).encode() + b"\n")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
