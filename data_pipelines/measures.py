"""What can be counted of a data set without decoding a picture: sizes, lengths, repetitions."""

import hashlib
import json
import warnings
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of, read_record
from data_pipelines.grouping import PICTURE_PARTS
from data_pipelines.hashing import stable_hash
from data_pipelines.manifest import Dataset
from data_pipelines.progress import with_progress
from data_pipelines.reader import read_sample
from data_pipelines.samples import sample_name
from data_pipelines.tokenizers import Tokenizer
from data_pipelines.words import printable

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
LARGEST_GROUPS = 5
CAPTIONS_AT_ONCE = 1000
Numbers = Int64[np.ndarray, " N"]


@dataclass(kw_only=True, eq=False)
class Measures:
    """Numbers of all samples that could be read, one each, in their order."""

    samples: array = field(default_factory=lambda: array("q"))
    widths: array = field(default_factory=lambda: array("q"))
    """Pixels, as stored; a turn by EXIF is not applied."""
    heights: array = field(default_factory=lambda: array("q"))
    picture_bytes: array = field(default_factory=lambda: array("q"))
    caption_characters: array = field(default_factory=lambda: array("q"))
    caption_tokens: array = field(default_factory=lambda: array("q"))
    """Before truncation, the end token included; empty without a tokenizer."""
    picture_hashes: array = field(default_factory=lambda: array("q"))
    caption_hashes: array = field(default_factory=lambda: array("q"))
    bad: Counter[str] = field(default_factory=Counter)
    """Samples that could not be read, by cause."""


def measure(dataset: Dataset, captions: CaptionConfig, tokenizer: Tokenizer | None) -> Measures:
    """Read every sample once; eight bytes per number stay in memory.

    `tokenizer` must not truncate. Raises UserError when a shard has vanished or changed.
    """
    found = Measures()
    waiting: list[str] = []
    numbers = range(dataset.num_samples)
    for number in with_progress(numbers, total=len(numbers), label="measuring samples"):
        try:
            caption = _measure_one(dataset, number, captions, found)
        except BadSample as bad:
            found.bad[bad.cause] += 1
            continue
        waiting.append(caption)
        if len(waiting) == CAPTIONS_AT_ONCE:
            _count_tokens(waiting, tokenizer, found)
    _count_tokens(waiting, tokenizer, found)
    return found


def summary_of(dataset: Dataset, found: Measures, context_length: int | None) -> dict[str, Any]:
    """The measures as JSON would say them; `context_length` is None where there is no tokenizer."""
    summary: dict[str, Any] = {
        "dataset_fingerprint": dataset.fingerprint,
        "shards": len(dataset.shards),
        "bytes": sum(shard.size for shard in dataset.shards),
        "samples": dataset.num_samples,
        "measured": len(found.samples),
        "bad": dict(found.bad.most_common()),
    }
    columns = {
        "picture_width": found.widths,
        "picture_height": found.heights,
        "picture_bytes": found.picture_bytes,
        "caption_characters": found.caption_characters,
        "caption_tokens": found.caption_tokens,
    }
    for name, values in columns.items():
        if values:
            summary[name] = distribution(as_numbers(values))
    if context_length is not None and found.caption_tokens:
        summary |= shares_at(as_numbers(found.caption_tokens), context_length)
    for name, hashes in (
        ("repeated_pictures", found.picture_hashes),
        ("repeated_captions", found.caption_hashes),
    ):
        summary[name] = repetitions(dataset, as_numbers(found.samples), as_numbers(hashes))
    return summary


def distribution(values: Numbers) -> dict[str, int | float]:
    """Smallest, percentiles, largest and mean; every percentile is a value that occurs."""
    at = np.percentile(values, PERCENTILES, method="inverted_cdf")
    named = zip(PERCENTILES, at.tolist(), strict=True)
    return {
        "min": int(values.min()),
        **{f"p{percentile}": int(value) for percentile, value in named},
        "max": int(values.max()),
        "mean": round(float(values.mean()), 3),
    }


def shares_at(num_tokens: Numbers, context_length: int) -> dict[str, Any]:
    """What a context of that many tokens cuts off, and how much of it stays empty."""
    used = np.minimum(num_tokens, context_length).sum()
    return {
        "context_length": context_length,
        "share_truncated": float((num_tokens > context_length).mean()),
        "share_padding": float(1 - used / (len(num_tokens) * context_length)),
    }


def repetitions(dataset: Dataset, samples: Numbers, hashes: Numbers) -> dict[str, Any]:
    """How many samples repeat an earlier one, and the first sample of each of the largest groups."""
    _, firsts, counts = np.unique(hashes, return_index=True, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:LARGEST_GROUPS]
    return {
        "distinct": len(counts),
        "repeats": len(hashes) - len(counts),
        "largest": [
            {
                "count": int(counts[group]),
                "first": ":".join(sample_name(dataset, int(samples[firsts[group]]))),
            }
            for group in largest
            if counts[group] > 1
        ],
    }


def as_numbers(values: array) -> Numbers:
    """A copy for numpy."""
    return np.frombuffer(values, dtype=np.int64).copy()


def summary_json(summary: dict[str, Any]) -> str:
    """The summary as text that ends with a line break."""
    return json.dumps(summary, indent=2) + "\n"


def _measure_one(dataset: Dataset, number: int, captions: CaptionConfig, found: Measures) -> str:
    parts = read_sample(dataset, number).parts
    caption = caption_of(read_record(parts), captions, row_seed=0)
    kind = next((kind for kind in PICTURE_PARTS if kind in parts), None)
    if kind is None:
        raise BadSample("no picture")
    width, height = _stored_size(parts[kind])
    found.samples.append(number)
    found.widths.append(width)
    found.heights.append(height)
    found.picture_bytes.append(len(parts[kind]))
    found.caption_characters.append(len(caption))
    found.picture_hashes.append(_hash_of_bytes(parts[kind]))
    found.caption_hashes.append(stable_hash(" ".join(caption.casefold().split())))
    return caption


def _stored_size(data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures; here only the header is read.
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
                return image.size
    # Pillow's parsers meet hostile bytes with nearly any exception there is.
    except Exception as error:
        raise BadSample("no readable picture header") from error


def _hash_of_bytes(data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _count_tokens(waiting: list[str], tokenizer: Tokenizer | None, found: Measures) -> None:
    if tokenizer is not None:
        found.caption_tokens.extend(len(row) for row in tokenizer.encode(waiting))
    waiting.clear()


def table_rows(summary: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table of distributions."""
    titles = ["", "min", *(f"{p} %" for p in PERCENTILES), "max", "mean"]
    rows = [
        [name.replace("_", " "), *(_number(value) for value in values.values())]
        for name, values in summary.items()
        if isinstance(values, dict) and "mean" in values and "p50" in values
    ]
    return titles, rows


def sentences(summary: dict[str, Any]) -> Sequence[str]:
    """What the summary says beside the distributions, one line each."""
    lines = [
        f"{summary['samples']:,} samples in {summary['shards']:,} shards, {summary['bytes']:,} bytes"
    ]
    lines += [f"left out: {number:,} x {cause}" for cause, number in summary["bad"].items()]
    if "context_length" in summary:
        lines.append(
            f"at a context of {summary['context_length']} tokens: "
            f"{100 * summary['share_truncated']:.2f} % of the captions are truncated, "
            f"{100 * summary['share_padding']:.1f} % of the places are padding"
        )
    for name in ("pictures", "captions"):
        said = summary[f"repeated_{name}"]
        lines.append(
            f"{name}: {said['distinct']:,} different ones, {said['repeats']:,} repeat another"
        )
        lines += [
            f"    {group['count']:,} times, first in {printable(group['first'])}"
            for group in said["largest"]
        ]
    return lines


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
