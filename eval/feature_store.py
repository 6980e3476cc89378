"""Vectors on disk: what an interrupted evaluation has done, and class vectors that are used again.

A file is found by its name alone. So its name is a hash of everything that the vectors depend on
(`key_of`, with `surroundings_of` for what is not the encoder's own): what stands there under another
name is of something else, and is never read. A file that is not what was written is as good as none.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data_pipelines.plain_files import require_plain
from data_pipelines.words import tell

FORMAT_VERSION = 1
_SEAL = "seal"
_NOTE = "note"


class Stored(NamedTuple):
    """What a file holds."""

    rows: dict[str, Float32[Tensor, "N E"]]
    """Vectors of each variant."""
    note: str
    """What was written down beside them."""


class FeatureStore:
    """Vectors under names, in files that are whole or not there. Without a folder it keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.num_loaded = 0
        """How many times something was found."""
        self._is_writable = folder is not None

    def load(self, name: str) -> Stored | None:
        """What was saved under the name; None where there is nothing, or nothing whole."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            require_plain(path)
            stored = _unpacked(name, path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            tell(
                f"{path} is damaged ({type(error).__name__}: {error}) and is made again",
            )
            return None
        self.num_loaded += 1
        return stored

    def save(self, name: str, rows: Mapping[str, Tensor], note: str = "") -> None:
        """Keep vectors. Where that cannot be, a line on standard error says so, once."""
        if self.folder is None or not self._is_writable:
            return
        path = self._path(name)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(_packed(name, rows, note))
            os.replace(unfinished, path)
        except OSError as error:
            self._is_writable = False
            tell(
                f"vectors cannot be kept in {self.folder} ({error.strerror}); "
                "what is computed from here on would be computed again",
            )
            with suppress(OSError):
                unfinished.unlink()

    def remove(self) -> None:
        """Delete what a FeatureStore has written into folders named by keys, and nothing else."""
        if self.folder is None or not self.folder.is_dir():
            return
        for entry in self.folder.iterdir():
            if re.fullmatch("[0-9a-f]{64}", entry.name) and entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


def _packed(name: str, rows: Mapping[str, Tensor], note: str) -> bytes:
    # Clones: safetensors refuses tensors that share their memory, as equal variants may.
    own = {variant: tensor.contiguous().clone() for variant, tensor in rows.items()}
    return save(own, metadata={_NOTE: note, _SEAL: _seal_of(name, own, note)})


def _unpacked(name: str, data: bytes) -> Stored:
    """The content of a file. Raises one of many errors where it is not what was written."""
    rows = load(data)
    facts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    if facts[_SEAL] != _seal_of(name, rows, facts[_NOTE]):
        raise ValueError("its content is not what was written under this name")
    return Stored(rows, facts[_NOTE])


def _seal_of(name: str, rows: Mapping[str, Tensor], note: str) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, name, note]).encode())
    for variant, tensor in sorted(rows.items()):
        digest.update(json.dumps([variant, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def key_of(*parts: Any) -> str:
    """A hash of plain values: strings, numbers, and lists of them."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prompt_fingerprint(sentences: Sequence[Any]) -> str:
    """A hash of strings, or of lists of strings, in their order."""
    digest = hashlib.sha256(b"[")
    for number, item in enumerate(sentences):
        # The JSON of the whole list, which may be long, piece by piece.
        digest.update(f"{', ' if number else ''}{json.dumps(item)}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def surroundings_of(encoder: object) -> list[Any]:
    """What decides the last bits of vectors beside the encoder's weights: code, versions, machine."""
    models = (encoder, getattr(encoder, "model", None))
    packages = [type(model).__module__.partition(".")[0] for model in models]
    return [
        _sources(("data_pipelines", "eval", *packages)),
        _versions(),
        # An encoder that does not say runs where torch would.
        str(getattr(encoder, "device", "")),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        torch.backends.cpu.get_cpu_capability(),
        _processor(),
    ]


@cache
def _sources(packages: tuple[str, ...]) -> str:
    """A hash of the code in these packages: in a working tree it changes without a new version."""
    digest = hashlib.sha256()
    folders = [
        Path(folder)
        for package in sorted(set(packages))
        for folder in getattr(sys.modules.get(package), "__path__", [])
    ]
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder.parent)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> list[str]:
    """Python and every package that is installed."""
    packages = {f"{d.name} {d.version}" for d in importlib.metadata.distributions()}
    return [platform.python_version(), *sorted(packages)]


@cache
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
