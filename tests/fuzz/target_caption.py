"""The json and txt parts of a sample, and the captions drawn from them."""

from functools import cache
from pathlib import Path
from random import Random

import hostile
import tiny
from byte_mutations import mutated_bytes, raw_bytes
from json_mutations import mutated_json
from target import Files, Target

from data_pipelines import captions, templates
from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import MAX_CAPTION_CHARACTERS, CaptionConfig, caption_of, read_record

CONFIGS = (
    CaptionConfig(),
    CaptionConfig(kind="label"),
    CaptionConfig(kind="label_keywords", num_keywords=2),
    CaptionConfig(
        kind="template", templates=("a {label} of {group}", "{keywords}", "{txt}", "{locales}")
    ),
)
GOOD = (
    b'{"label": "a cat", "keywords": ["pet", "animal"], "locales": {"de": "Katze"}, "group": "animals"}',
    b'{"label": "x", "keywords": [], "group": ["a", "b"]}',
    b"{}",
)  # fmt: skip


@cache
def seeds() -> list[Files]:
    """Good records, and those of the hostile corpus."""
    made = [{"json": data, "txt": b"a cat, \xf0\x9f\x90\x88"} for data in GOOD]
    made += [{"json": case.make()} for case in hostile.cases() if case.kind == "record"]
    return [files for files in made if len(files["json"]) < 100_000] + [{"txt": b"a cat"}]


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Values of other kinds, deep nesting, broken UTF-8."""
    files = dict(files)
    name = draws.choice(list(files) or ["txt"])
    data, piece = files.get(name, b""), other.get(name, b"")
    if draws.random() < 0.02:
        files[name] = raw_bytes(draws)
    elif name == "json":
        files[name] = mutated_json(data, draws, piece, indent=None)
    else:
        files[name] = mutated_bytes(data, draws, piece)
    if draws.random() < 0.02:
        del files[name]
    return files


def attempt(files: Files, folder: Path) -> str:
    """Read the record and draw a caption of each kind; the tokenizer takes every caption."""
    record = read_record(files)
    found, causes = 0, set()
    for config in CONFIGS:
        for seed in (0, -1, 2**63):
            try:
                caption = caption_of(record, config, seed)
            except BadSample as bad:
                causes.add(bad.cause)
                continue
            assert caption == caption_of(record, config, seed)
            assert caption == caption.strip() and 0 < len(caption) <= MAX_CAPTION_CHARACTERS
            assert caption.encode("utf-8").decode("utf-8") == caption
            (row,) = tiny.tokenizer().encode([caption])
            assert 1 <= len(row) <= tiny.tokenizer().context_length
            found += 1
    return f"captions {'all' if not causes else 'some' if found else 'none'}"


TARGET = Target(
    name="caption",
    what="read_record, caption_of and the tokenizer; the same caption twice, bounded, and UTF-8",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(captions, templates),
)
