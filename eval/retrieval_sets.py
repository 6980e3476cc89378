"""Pictures and the captions that people wrote for them, in the layouts in which they are published.

retrieval:karpathy:FILE.json     dataset_coco.json or dataset_flickr30k.json, pictures below --data
retrieval:xm3600:LANGUAGE:FOLDER captions.jsonl and images/ of Crossmodal-3600 (arXiv 2205.12522)
retrieval:SHARDS                 lines of txt in shards
retrieval:emoji-test             all labels and keywords of a pack's split
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record
from data_pipelines.errors import UserError
from eval.caption_files import field_of, read_caption_lines, read_captions, shown
from eval.listed_pictures import ListedPicture, listed_pictures
from eval.outside_files import named_path
from eval.picture_sets import PictureSet, shard_pictures
from eval.retrieval import pairs_of_keys
from eval.task_kinds import RetrievalTask
from eval.task_paths import words_and_path
from eval.texts import cause_against, left_out_notes, number_of

CAPTION_LIMIT = re.compile(r"first-([1-9]\d?)")
SPLITS = ("train", "restval", "val", "test")
KARPATHY_WORD = re.compile("|".join([*SPLITS, CAPTION_LIMIT.pattern]))
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,8})?")
XM3600_WORD = re.compile(f"{LANGUAGE.pattern}|{CAPTION_LIMIT.pattern}")
NO_CAPTION = "no caption"


def karpathy_retrieval(name: str, spec: str, data: Path | None) -> RetrievalTask:
    """The pictures of one split in Karpathy's JSON: retrieval:karpathy[:SPLIT][:first-N]:FILE.json.

    The test split and all captions unless the name says otherwise; `data` is the folder that
    filepath and filename begin in. Raises UserError for files of another layout.
    """
    words, path = words_and_path(spec, KARPATHY_WORD)
    split, limit = _one(words, SPLITS, "test", name), _caption_limit(words, name)
    file = named_path(path, data)
    if data is None:
        raise UserError(f"{name} needs --data FOLDER, where the pictures of {file.name} begin")
    items = field_of(read_captions(file, without=frozenset({"tokens"})), "images", list, str(file))
    listed, captions = [], []
    for number, item in enumerate(items):
        where = f"{file}, picture {number:,}"
        if field_of(item, "split", str, where) != split:
            continue
        folder = field_of(item, "filepath", str, where) + "/" if "filepath" in item else ""
        listed.append(ListedPicture(folder + field_of(item, "filename", str, where)))
        sentences = field_of(item, "sentences", list, where)
        captions.append([field_of(sentence, "raw", str, where) for sentence in sentences])
    if not listed:
        raise UserError(f"{file} has no pictures in the split {split!r}; name another one")
    pictures, missing = listed_pictures(data, listed)
    merged = _merged(listed, captions, limit)
    which = _which_captions(limit)
    return _captioned(name, f"{file.stem}-{split}", pictures, missing, merged, which)


def xm3600_retrieval(name: str, spec: str, data: Path | None) -> RetrievalTask:
    """The captions in one language: retrieval:xm3600:LANGUAGE[:first-N]:FOLDER.

    FOLDER/captions.jsonl has an object per picture with "image/key" and, for each language, an
    object with a list "caption"; the pictures are FOLDER/images/KEY.jpg.
    """
    words, path = words_and_path(spec, XM3600_WORD)
    limit = _caption_limit(words, name)
    folder = named_path(path, data)
    records = _xm3600_records(folder)
    languages = _languages(records)
    language = _one(words, [word for word in words if LANGUAGE.fullmatch(word)], "", name)
    if language not in languages:
        raise UserError(
            f"{name}: the captions of {folder} are in {', '.join(languages)}; "
            f"name one of them, as in retrieval:xm3600:{languages[0]}:{path}"
        )
    listed = [ListedPicture(f"{key}.jpg") for key, _ in records]
    captions = [list(by_language.get(language, ())) for _, by_language in records]
    pictures, missing = listed_pictures(folder / "images", listed)
    merged = _merged(listed, captions, limit)
    which = _which_captions(limit)
    return _captioned(name, "xm3600", pictures, missing, merged, which, language)


def names_per_language(name: str, data: Path | None) -> list[str]:
    """A name per language of the folder where the name has none, as in retrieval:xm3600:FOLDER."""
    words, path = words_and_path(name.split(":", 2)[2], XM3600_WORD)
    if any(LANGUAGE.fullmatch(word) for word in words):
        return [name]
    languages = _languages(_xm3600_records(named_path(path, data)))
    return [":".join(["retrieval", "xm3600", code, *words, path]) for code in languages]


def shard_retrieval(name: str, spec: str, data: Path | None) -> RetrievalTask:
    """A user's own shards, retrieval:SHARDS: each line of a sample's txt is a text."""
    pictures, records, missing = shard_pictures([spec])
    captions: list[Sequence[Any]] = [()] * pictures.num_pictures
    for number, record in records.items():
        try:
            captions[number] = _lines(record)
        except BadSample as error:
            missing[number] = error.cause
    which = "Each line of a sample's txt is a text"
    return _captioned(name, spec, pictures, missing, captions, which)


def emoji_retrieval(name: str, data: Path | None) -> RetrievalTask:
    """Skin tones share one text, or else nobody could tell which of six texts is the right one."""
    pictures, records, missing = shard_pictures([f"emoji:{name.rpartition('-')[2]}"])
    # Two sources may give one label other keywords: both texts are then right for its pictures.
    key_of_text = {
        ", ".join([record["positive_key"], *record["keywords"]]): record["positive_key"]
        for record in records.values()
    }
    image_keys = [records.get(n, {}).get("positive_key", "") for n in range(pictures.num_pictures)]
    return RetrievalTask(
        name=name,
        dataset=name.partition(":")[2],
        pictures=pictures,
        missing=missing,
        texts=list(key_of_text),
        right_pairs=pairs_of_keys(image_keys, list(key_of_text.values())),
        rule=(
            "A text is a label without its skin tone, and all keywords of it. Candidates are all "
            "distinct texts, or all pictures of every style and tone. A picture is found by any "
            "text, and a text by any picture, with the same label. Ties count as misses."
        ),
    )


def _captioned(
    name: str,
    dataset: str,
    pictures: PictureSet,
    missing: dict[int, str],
    captions: Iterable[Sequence[Any]],
    which: str,
    language: str = "en",
) -> RetrievalTask:
    """The task of pictures and their captions; equal captions are one text with several pictures."""
    texts: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    pairs: set[tuple[int, int]] = set()
    for picture, own in enumerate(captions):
        if picture in missing:
            continue
        causes = [cause_against(caption) for caption in own]
        left_out.update(cause for cause in causes if cause is not None)
        good = [caption for caption, cause in zip(own, causes, strict=True) if cause is None]
        pairs |= {(picture, number_of(caption, texts)) for caption in good}
        if not good:
            missing[picture] = NO_CAPTION
    return RetrievalTask(
        name=name,
        dataset=dataset,
        language=language,
        pictures=pictures,
        missing=missing,
        notes=left_out_notes("captions", left_out),
        texts=list(texts),
        right_pairs=torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2),
        rule=(
            f"{which}. Candidates are all distinct texts, or all pictures. A picture is found by "
            "any of its texts, a text by any picture that has it. Ties count as misses."
        ),
    )


def _which_captions(limit: int | None) -> str:
    which = "All captions" if limit is None else f"The first {limit} captions"
    return f"{which} of a picture are texts, equal ones one text"


def _merged(
    listed: Sequence[ListedPicture], captions: Sequence[list[Any]], limit: int | None
) -> list[list[Any]]:
    """At most `limit` captions per entry; a picture that is listed twice has those of both, once."""
    owner: dict[ListedPicture, int] = {}
    merged: list[list[Any]] = [[] for _ in listed]
    for number, (picture, own) in enumerate(zip(listed, captions, strict=True)):
        merged[owner.setdefault(picture, number)] += own[:limit]
    return merged


def _lines(record: Record) -> list[str]:
    captions = [line for line in record.get("txt", "").splitlines() if line.strip()]
    if not captions:
        raise BadSample("empty caption" if "txt" in record else "no txt")
    return captions


def _one(words: Sequence[str], known: Sequence[str], default: str, name: str) -> str:
    """The only one of the words that is known, or the default."""
    found = [word for word in words if word in known]
    if len(found) > 1:
        raise UserError(f"{name} names both {found[0]!r} and {found[1]!r}; name one of them")
    return found[0] if found else default


def _caption_limit(words: Sequence[str], name: str) -> int | None:
    word = _one(words, [word for word in words if CAPTION_LIMIT.fullmatch(word)], "", name)
    return int(word.partition("-")[2]) if word else None


def _languages(records: Sequence[tuple[str, dict[str, list[Any]]]]) -> list[str]:
    return sorted({language for _, by_language in records for language in by_language})


def _xm3600_records(folder: Path) -> list[tuple[str, dict[str, list[Any]]]]:
    file = folder / "captions.jsonl"
    stamp = file.stat().st_mtime_ns if file.is_file() else 0
    return _read_xm3600(file, stamp)


@functools.lru_cache(maxsize=1)  # The languages of one file are asked for one after the other.
def _read_xm3600(file: Path, stamp: int) -> list[tuple[str, dict[str, list[Any]]]]:
    """For each picture its key, and its captions by language."""
    records = []
    tokenized = frozenset({"caption/tokenized", "caption/tokenized/lowercase"})
    for where, record in read_caption_lines(file, without=tokenized):
        key = field_of(record, "image/key", str, where)
        by_language = {
            code: field_of(value, "caption", list, where)
            for code, value in record.items()
            if isinstance(value, dict) and LANGUAGE.fullmatch(code)
        }
        records.append((key, by_language))
    if not any(by_language for _, by_language in records):
        found = shown(list(records[:1]))
        raise UserError(f"{file} has no captions in any language (it begins {found})")
    return records
