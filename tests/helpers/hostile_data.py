"""Hostile shards, folders of pictures, tables and data sets for evaluation, as the things that commands take."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile_captions
import hostile_pictures
import hostile_sidecars
import hostile_tars
import numpy as np
from hostile_files import (
    CANARY,
    Input,
    at,
    put,
    sparse,
    spoilt_json,
    spoilt_names,
    spoilt_pickles,
)
from hostile_weights import spoilt_arrays, spoilt_parquet

from data_pipelines.index import read_or_build_index

BIDI = "\u202egnp.elppa\u202c \u2066x\u2069"
HTML = "<script>alert('hostile')</script>\"><img src=x onerror=alert(1)>"
NAMES = {
    "HTML in a name": HTML.replace("/", "\u2044")[:200],
    "commands for a terminal in a name": "a\x1b]0;owned\x07\x1b[2J\x1b[31m",
    "line break in a name": "a\nerror: all is well",
    "name that turns around": f"a{BIDI}",
    "name that is no UTF-8": os.fsdecode(b"\xff\xfe\xc0"),
    "name with markup of the terminal": "[bold red]a[/] [link=file:///etc/passwd]x[/link]",
    "name with a command": f"$(touch {CANARY});`touch {CANARY}`|x",
    "name of 250 letters": "n" * 250,
    "name like an option": "--overwrite",
    "name of a format": "{x.__class__.__init__.__globals__} %s %n",
}
"""Of samples, models and runs; with `as_file_name` of files and folders."""
TOLD = f"{NAMES['commands for a terminal in a name']}\nerror: all is well{BIDI}"
"""What no terminal may be told."""


def as_file_name(name: str) -> str:
    """The name without what no name of a file can have."""
    return name.replace("/", "\u2044")


def inputs() -> Iterator[Input]:
    """All of them."""
    yield from shards()
    yield from texts_for_shards()
    for thing in ("pictures", "classes"):
        yield from picture_folders(thing)
    yield from tables()
    yield from evaluation_sets()
    yield from at("cut_outs", "apple.png", spoilt_names())
    for case in hostile_pictures.pictures():
        yield _of_bytes("cut_outs", "apple.png", "picture", case.name, case.make)


def _of_bytes(thing: str, file: str, kind: str, name: str, make: Callable[[], bytes]) -> Input:
    return Input(thing=thing, kind=kind, name=name, spoil=lambda path: put(path / file, make()))


def shards() -> Iterator[Input]:
    """Shards, what is in them, and what lies beside them."""
    for case in hostile_tars.tars():
        yield _of_bytes("shard", "a.tar", "tar", case.name, case.make)
    for case in hostile_pictures.pictures():
        yield _of_bytes("shard", "a.tar", "picture", case.name, lambda c=case: _shard(png=c.make()))
    for case in hostile_captions.records():
        yield _of_bytes("shard", "a.tar", "record", case.name, lambda c=case: _shard(json=c.make()))
    for name, text in NAMES.items():
        words = text.encode("utf-8", "surrogateescape")
        yield _of_bytes("shard", "a.tar", "words", name.replace("name", "caption"),
                        lambda w=words: _shard(txt=w, json=_record(w)))  # fmt: skip
    for case in hostile_sidecars.sidecars():
        yield Input(thing="shard", kind="sidecar", name=case.name,
                    spoil=lambda path, c=case: _with_sidecar(path, c.make()))  # fmt: skip
    yield Input(
        thing="shard",
        kind="sidecar",
        name="commands for a terminal as causes",
        spoil=_with_told_causes,
    )
    yield from at("shard", "a.tar", spoilt_pickles())
    yield from at("shard", "a.tar", spoilt_names())
    yield from at("table_shard", "a.parquet", spoilt_parquet({"key": ["s0"], "uid": ["0" * 32]}))
    yield from at("table_shard", "a.parquet", spoilt_names())
    yield from at("table_shard", "a.parquet", spoilt_pickles())


def _shard(**parts: bytes) -> bytes:
    # A sound sample beside it: what is left must still be used.
    return hostile_tars.sample() + hostile_tars.sample(b"bad", **parts) + bytes(1024)


def _record(words: bytes) -> bytes:
    text = words.decode("utf-8", "replace")
    return json.dumps({"label": text, "caption": text, "keywords": [text]}).encode()


def _with_told_causes(path: Path) -> None:
    """The shard's own index, which fits it, with commands for a terminal where causes stand."""
    read_or_build_index(path / "a.tar")
    kept = path / "a.tar.index.npz"
    with np.load(kept) as arrays:
        told = dict(arrays)
    causes = list(NAMES.values())[1:4]
    told |= {"skipped_causes": np.array(causes), "skipped_counts": np.ones(len(causes), np.int64)}
    kept.unlink()
    np.savez(kept, **told)


def _with_sidecar(path: Path, content: bytes) -> None:
    put(path / "a.tar", hostile_tars.sample())
    put(path / "a.tar.index.npz", content)
    os.utime(path / "a.tar", ns=(0, 0))


def texts_for_shards() -> Iterator[Input]:
    """What may stand on the command line where shards are named."""
    for case in hostile_captions.specs():
        word = case.make().decode("utf-8", "surrogateescape")
        # The operating system hands over no NUL and no word of more than 128 KiB.
        if "\0" not in word and len(word) < 2**17 and word != "/etc":
            yield Input(thing="shard", kind="spec", name=case.name, spoil=_beside, word=word)


def _beside(path: Path) -> None:
    """What the texts speak of, in the working folder."""
    here = path.parent.parent / "cwd"
    (here / "good.tar").write_bytes(hostile_tars.sample())
    os.mkfifo(here / "fifo.tar")
    (here / "link.tar").symlink_to("/dev/zero")


def picture_folders(thing: str) -> Iterator[Input]:
    """Folders with one hostile file, or one hostile name."""
    folder = "cat/" if thing == "classes" else ""
    for case in hostile_pictures.pictures():
        yield _of_bytes(thing, f"{folder}0.png", "picture", case.name, case.make)
    yield from at(thing, f"{folder}0.png", spoilt_names())
    yield from at(thing, f"{folder}0.png", spoilt_pickles())
    for name, text in NAMES.items():
        yield Input(thing=thing, kind="name", name=name,
                    spoil=lambda path, t=text: _renamed(path / folder, t[:200] + ".png"))  # fmt: skip
        if thing == "classes":
            yield Input(thing=thing, kind="name", name=f"{name} of a class",
                        spoil=lambda path, t=text: (path / "cat").rename(path / as_file_name(t)))  # fmt: skip
    places: dict[str, Callable[[Path], object]] = {
        "link to a folder outside": lambda path: (path / "out").symlink_to("/etc"),
        "link to itself as a folder": lambda path: (path / "loop").symlink_to("."),
        "link to a file outside": lambda path: (path / folder / "9.png").symlink_to("/etc/passwd"),
        "600 MB of nothing": lambda path: sparse(path / folder / "0.png", 6 * 10**8, b"\x89PNG\r\n\x1a\n"),
        "800 folders in one another": _deep,
        "code beside the pictures": lambda path: put(path / "conftest.py", b"import os; os.mkdir('ran-canary')"),
    }  # fmt: skip
    for name, make in places.items():
        yield Input(thing=thing, kind="no file", name=name, spoil=make)


def _renamed(folder: Path, name: str) -> None:
    (folder / "0.png").rename(folder / as_file_name(name))


def _deep(path: Path) -> None:
    here = os.open(path, os.O_RDONLY)
    for _ in range(800):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def tables() -> Iterator[Input]:
    """Tables of captions, deny-lists and lists of uids."""
    rows = {"file": ["0.png"], "caption": ["a cat"]}
    yield from at("captions_parquet", "", spoilt_parquet(rows))
    for thing in (
        "captions_parquet",
        "captions_jsonl",
        "captions_csv",
        "deny",
        "uids_text",
        "uids",
    ):
        yield from at(thing, "", spoilt_names())
        yield from at(thing, "", spoilt_pickles())
    for thing in ("captions_jsonl", "captions_csv", "deny", "uids_text", "karpathy"):
        yield from at(thing, "", spoilt_json())
    yield from at("karpathy", "", spoilt_names())
    yield from at("uids", "", spoilt_arrays())
    lines = {
        "captions_jsonl": '{"file": %s, "caption": %s}\n',
        "captions_csv": "file,caption\n%s,%s\n",
    }
    files = {
        "file that climbs out": "../../../../../../etc/passwd", "file of the root": "/etc/passwd",
        "device as a file": "/dev/zero", "NUL in a file": "a\0b.png", "address as a file": "http://1.2.3.4/a.png",
        "file of 5,000 letters": "x" * 5000, "command as a file": f"|touch {CANARY}",
    }  # fmt: skip
    words = {**NAMES, "caption of 10 MB": "x" * 10**7, "quotes in a caption": '"' * 1001}
    for thing, line in lines.items():
        quoted = json.dumps if thing == "captions_jsonl" else (lambda text: f'"{text}"')
        for name, text in files.items():
            row = line % (quoted(text), quoted("a cat"))
            yield Input(thing=thing, kind="words", name=name, spoil=_text(row))
        for name, text in words.items():
            row = line % (quoted("0.png"), quoted(text))
            yield Input(thing=thing, kind="words", name=name, spoil=_text(row))
    record = json.dumps({"shard": "a.tar", "key": "s1\x1b[2J", "cause": HTML})
    yield Input(thing="deny", kind="words", name="commands for a terminal", spoil=_text(record))


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: put(path, text.encode("utf-8", "surrogateescape"))


def evaluation_sets() -> Iterator[Input]:
    """Folders in others' layouts."""
    for file in ("classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"):
        yield from at("wds", file, spoilt_names())
        yield from at("wds", file, spoilt_pickles())
        yield Input(thing="wds", kind="words", name=f"{file}: 600 MB of nothing",
                    spoil=lambda path, f=file: sparse(path / f, 6 * 10**8, b"cat"))  # fmt: skip
        for name, text in NAMES.items():
            words = f"{text}\n{{c}} dog\n".encode("utf-8", "surrogateescape")
            yield Input(thing="wds", kind="words", name=f"{file}: {name}",
                        spoil=lambda path, f=file, w=words: put(path / f, w))  # fmt: skip
    for thing in ("wds", "wds_retrieval"):
        yield from at(thing, "test/0.tar", spoilt_names())
        for case in hostile_tars.tars():
            yield _of_bytes(thing, "test/0.tar", "tar", case.name, case.make)
        for case in hostile_pictures.pictures():
            parts = {"cls": b"1"} if thing == "wds" else {}
            yield _of_bytes(thing, "test/0.tar", "picture", case.name,
                            lambda c=case, p=parts: _shard(png=c.make(), **p))  # fmt: skip
    for name, content in {"class of 10^30": b"1" + b"0" * 30, "class -1": b"-1", "class of letters": b"cat",
                          "class without end": b"inf", "class of 10 MB": b"1" * 10**7}.items():  # fmt: skip
        yield _of_bytes("wds", "test/0.tar", "record", name, lambda c=content: _shard(cls=c))
