"""Folders of tokenizers made to break what loads them."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hostile_cases import Case, zipped


def tokenizers() -> Iterator[Case]:
    """`tokenizer.json` and `tokenizer.model` in one zip, only for the way: the folder gets both."""
    error = "UserError: "
    sound = {"canonicalize": "lower", "context_length": 16, "pad_token": None}

    def folder(described: object, model: bytes = b"\x0a\x02a") -> Callable[[], bytes]:
        text = described if isinstance(described, bytes) else json.dumps(described).encode()
        return lambda: zipped({"tokenizer.json": text, "tokenizer.model": model})

    def settings(model: bytes = b"\x0a\x02a", **changes: object) -> Callable[[], bytes]:
        described = {"format_version": 1, "kind": "sentencepiece", "settings": {**sound, **changes}}
        return folder(described, model)

    makers = {
        "10,000 brackets": folder(b"[" * 10_000),
        "100,000 brackets": folder(b"[" * 100_000),
        "80 MB of settings": lambda: folder(b'"' + b"x" * (80 * 10**6) + b'"')(),
        "number of 10,000 digits": folder(b'{"format_version": ' + b"1" * 10_000 + b"}"),
        "no UTF-8": folder(b"\xff\xfe{}"),
        "class to be made": folder({"format_version": 1, "kind": "os.system", "settings": "touch canary"}),
        "settings that are a list": folder({"format_version": 1, "kind": "clip", "settings": [1]}),
        "list as a kind": folder({"format_version": 1, "kind": ["clip"], "settings": {}}),
        "unknown settings": settings(trust_remote_code=True),
        "length without end": settings(context_length=float("inf")),
        "text as a length": settings(context_length="16"),
        "vocabulary that is not CLIP's": folder({"format_version": 1, "kind": "clip", "settings": {}}),
        "empty model": settings(b""),
        "model of noise": settings(np.random.default_rng(3).bytes(10_000)),
        "model with a piece of 2 GB": settings(b"\x0a\xff\xff\xff\xff\x07" + bytes(100)),
        "model that is a pickle": settings(b"\x80\4cposix\nsystem\n(S'touch canary'\ntR."),
        "model of 80 MB": lambda: settings(bytes(80 * 10**6))(),
        "model of 100,000 nested groups": settings(b"\x0b" * 100_000),
    }  # fmt: skip
    for name, make in makers.items():
        yield Case(kind="tokenizer", name=name, make=make, expected=error)


def lay_down(folder: Path, content: bytes) -> None:
    """The two files of a case's zip, in the folder of a tokenizer."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in ("tokenizer.json", "tokenizer.model"):
            (folder / name).write_bytes(archive.read(name))
