"""Train a sentencepiece tokenizer on the captions of shards; the same shards give the same bytes.

python -m data_pipelines.prepare.train_tokenizer emoji:train --out FILE.model --vocab-size 4000
"""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sentencepiece
import tyro

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.errors import UserError, run_command
from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.progress import with_progress
from data_pipelines.reader import read_sample
from data_pipelines.tokenizers import Canonicalization, canonical
from data_pipelines.words import say

Pieces = Literal["unigram", "bpe"]

END_TOKEN = 1
"""SigLIP's end and padding token."""


@dataclass(frozen=True, kw_only=True)
class TrainTokenizerConfig:
    """Train a sentencepiece tokenizer on the captions of shards."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Packs, paths, globs or ranges, such as emoji:train."""
    out: Path
    """The .model file to write."""
    vocab_size: int
    """Most pieces, special ones included; fewer where the captions do not offer as many."""
    canonicalize: Canonicalization = "lower_no_punctuation"
    """The form of the captions; give the tokenizer the same."""
    pieces: Pieces = "unigram"
    """How pieces are found. unigram: by likelihood, as SigLIP's; bpe: by frequency, which leaves words whole
    where there are only a few hundred."""
    locales: tuple[str, ...] = ()
    """Languages whose labels are read too, by their codes in the samples; labels, keywords and
    text captions are always read."""
    overwrite: bool = False
    """Replace a model that is already there."""


def main(argv: list[str]) -> None:
    """Read all captions, train, write the model."""
    config = tyro.cli(
        TrainTokenizerConfig,
        args=argv,
        prog="python -m data_pipelines.prepare.train_tokenizer",
    )
    if config.out.exists() and not config.overwrite:
        raise UserError(f"{config.out} exists; choose another name or add --overwrite")
    dataset = open_dataset(config.shards)
    captions, num_bad = read_captions(dataset, config.canonicalize, config.locales)
    model = train_model(captions, config.vocab_size, config.pieces)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.out.with_name(f".{config.out.name}.{os.getpid()}.tmp")
    temporary.write_bytes(model)
    os.replace(temporary, config.out)
    print(
        f"captions: {len(captions):,} different ones, from {dataset.num_samples - num_bad:,} samples"
    )
    if num_bad:
        print(f"left out: {num_bad:,} samples without readable captions")
    say(f"pieces: {_num_pieces(model):,}; wrote {config.out} ({len(model):,} bytes)")


def read_captions(
    dataset: Dataset, canonicalize: Canonicalization, locales: Sequence[str]
) -> tuple[list[str], int]:
    """The different captions of a data set in canonical form, sorted; and the number of bad samples."""
    found: set[str] = set()
    num_bad = 0
    numbers = range(dataset.num_samples)
    for number in with_progress(numbers, total=len(numbers), label="reading captions"):
        try:
            record = read_record(read_sample(dataset, number).parts)
        except BadSample:
            num_bad += 1
            continue
        found.update(canonical(text, canonicalize) for text in _texts(record, locales))
    found.discard("")
    return sorted(found), num_bad


def train_model(captions: Sequence[str], vocab_size: int, pieces: Pieces = "unigram") -> bytes:
    """A model with the end token 1, no start token and no padding token."""
    if not captions:
        raise UserError("the shards hold no captions; a tokenizer needs some text to learn from")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(captions),
            model_writer=model,
            model_type=pieces,
            vocab_size=vocab_size,
            # Small data may not offer as many pieces as were asked for.
            hard_vocab_limit=False,
            # The result must not depend on the order in which threads finish.
            num_threads=1,
            character_coverage=1.0,
            unk_id=0,
            eos_id=END_TOKEN,
            bos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"sentencepiece could not train {vocab_size} pieces on {len(captions)} captions "
            f"({str(error).splitlines()[0]}); try another --vocab-size"
        ) from error
    return model.getvalue()


def _texts(record: Record, locales: Sequence[str]) -> Iterator[str]:
    """Label, keywords, text and chosen languages; what is not a string is no caption."""
    spoken = record.get("locales")
    keywords = record.get("keywords")
    candidates = [
        record.get("label"),
        record.get("txt"),
        *(keywords if isinstance(keywords, list) else []),
        *(spoken.get(code) for code in locales if isinstance(spoken, dict)),
    ]
    return (text for text in candidates if isinstance(text, str))


def _num_pieces(model: bytes) -> int:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return processor.vocab_size()


if __name__ == "__main__":
    run_command(main)
