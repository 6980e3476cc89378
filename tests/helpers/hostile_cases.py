"""What a hostile input is."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile input."""

    kind: str
    """tar, picture, record, spec, sidecar or tokenizer: which reader it is given to."""
    name: str
    make: Callable[[], bytes] = field(repr=False)
    """Its bytes; for a spec its text in UTF-8."""
    expected: str
    """A regular expression for what the reader says of it."""


def bytes_case(kind: str, name: str, content: bytes, expected: str) -> Case:
    """A case whose bytes are there already."""
    return Case(kind=kind, name=name, make=lambda: content, expected=expected)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files by their names."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()
