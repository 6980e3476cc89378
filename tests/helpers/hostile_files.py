"""What may lie where a file is expected: pickles in every disguise, JSON to break parsers, and no files at all."""

import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hostile_cases import zipped

CANARY = "ran-canary"
"""In the name of what hostile code leaves behind when it has run."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A hostile example of a thing."""

    thing: str
    """Of which thing, as hostile_world names it."""
    kind: str
    name: str
    spoil: Callable[[Path], object] = field(repr=False)
    """Makes a copy of the sound thing hostile."""
    word: str = ""
    """What stands on the command line in place of the thing's path, if it is not that; behind an @ a
    name in the same folder."""


Spoiling = tuple[str, str, Callable[[Path], object]]
"""Kind, name, and what makes a file hostile."""


class Trap:
    """Unpickled, it leaves a file; so does what it is called by."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.canary),)


def put(path: Path, content: bytes) -> None:
    """This content in place of what is there."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def sparse(path: Path, size: int, begin: bytes = b"") -> None:
    """A file of so many bytes that takes no room."""
    put(path, begin)
    os.truncate(path, size)


def canary_beside(path: Path) -> Path:
    """Where hostile code in this file shall leave its mark."""
    return path.parent / f"{path.name}.{CANARY}"


def command(path: Path) -> str:
    """A command for a shell that leaves the mark."""
    return f"touch '{canary_beside(path)}'"


def pickles(path: Path) -> dict[str, bytes]:
    """Pickles that would leave a mark beside the file, in all usual wrappings."""
    trap = Trap(canary_beside(path))
    plain = pickle.dumps(trap, 4)
    words = f"cposix\nsystem\n(S{command(path)!r}\ntR.".encode()
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    system = pickle.dumps({"little_endian": True}, 2)
    archive = {
        "archive/data.pkl": pickle.dumps({"state_dict": trap}, 2),
        "archive/version": b"3\n",
        "archive/byteorder": b"little",
    }
    array = np.empty(1, dtype=object)
    array[0] = trap
    objects = io.BytesIO()
    np.save(objects, array, allow_pickle=True)
    return {
        "pickle": plain,
        "pickle in letters": words,
        "pickle of torch, zip": zipped(archive, zipfile.ZIP_STORED),
        "pickle of torch, before 1.6": magic + protocol + system + plain,
        "pickle of torch, tar": _tar_of({"sys_info": system, "pickle": plain, "tensors": plain}),
        "pickle in safetensors": struct.pack("<Q", len(plain)) + plain,
        "pickle of joblib": zlib.compress(plain),
        "pickle of numpy": objects.getvalue(),
        "pickle in npz": zipped({"a.npy": objects.getvalue()}),
        "pickle behind JSON": b'{"format_version": 1}\n' + plain,
        "pickle of a checkpoint's metadata": zipped({".metadata": plain, "__0_0.distcp": plain}),
    }


def _tar_of(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    return stream.getvalue()


def spoilt_pickles() -> Iterator[Spoiling]:
    """Each pickle in place of the file."""
    for name in pickles(Path("x")):
        yield "pickle", name, lambda path, name=name: put(path, pickles(path)[name])


JSON_TEXTS: dict[str, bytes] = {
    "100,000 brackets": b"[" * 100_000,
    "10,000 objects in one another": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "NaN": b'{"format_version": NaN, "step": NaN}',
    "endless number": b'{"format_version": 1e999, "step": -Infinity}',
    "number of 10,000 digits": b'{"format_version": ' + b"1" * 10_000 + b"}",
    "no UTF-8": b'{"format_version": "\xff\xfe"}',
    "UTF-16": '{"format_version": 1}'.encode("utf-16"),
    "half a surrogate": b'{"format_version": "\\ud800", "\\udfff": 1}',
    "nothing": b"",
    "a list": b"[1, 2, 3]",
    "null": b"null",
    "a text": b'"format_version"',
    "an empty object": b"{}",
    "version of tomorrow": b'{"format_version": 999999}',
    "a command for a terminal": '{"format_version": "\x1b]0;owned\x07\x1b[2J\u202e\\u001b[31m"}'.encode(),
    "a class to be made": b'{"_target_": "os.system", "__class__": "os.system", "format_version": 1}',
}


def spoilt_json() -> Iterator[Spoiling]:
    """Each text in place of the file; and one so large that it would fill the memory."""
    for name, text in JSON_TEXTS.items():
        yield "json", name, lambda path, text=text: put(path, text)
    yield (
        "json",
        "18 MB of empty objects",
        lambda path: put(path, b'{"a": [' + b"{}," * 6_000_000 + b"{}]}"),
    )
    yield "json", "600 MB of nothing", lambda path: sparse(path, 600 * 10**6, b'{"a": "')


def spoilt_names() -> Iterator[Spoiling]:
    """What is no file, where one is expected."""
    kinds: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "device without an end": lambda path: path.symlink_to("/dev/zero"),
        "folder": Path.mkdir,
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
        "nothing at all": lambda path: None,
    }
    for name, make in kinds.items():
        yield "no file", name, lambda path, make=make: (remove(path), make(path))


def remove(path: Path) -> None:
    """The file or the folder is there no more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def changed(**values: Any) -> Callable[[Path], None]:
    """A JSON file with other values; a name such as `text__width` is a way into it."""

    def change(path: Path) -> None:
        data = json.loads(path.read_text())
        for name, value in values.items():
            *way, last = name.split("__")
            place = data
            for step in way:
                place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
            place[int(last) if isinstance(place, list) else last] = value
        put(path, json.dumps(data).encode())

    return change


def at(thing: str, file: str, spoilings: Iterator[Spoiling], then: Any = None) -> Iterator[Input]:
    """The spoilings of a file of a thing; `then` is done to the thing at last, such as sealing it anew."""

    def spoil(path: Path, make: Callable[[Path], object]) -> None:
        make(path / file if file else path)
        if then is not None:
            then(path)

    for kind, name, make in spoilings:
        where = f"{file}: {name}" if file else name
        yield Input(
            thing=thing, kind=kind, name=where, spoil=lambda path, make=make: spoil(path, make)
        )
