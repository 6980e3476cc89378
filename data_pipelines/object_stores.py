"""Files in object stores (s3://, gs://) and in memory://, through fsspec."""

import glob
from collections.abc import Awaitable, Callable
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from data_pipelines.errors import UserError
from data_pipelines.transport import (
    MAX_VERSION_CHARACTERS,
    PermanentError,
    RemoteStatus,
    TransientError,
)

SCHEMES = ("s3", "gs", "memory")

# What the stores call the version of a file, the most exact first.
_VERSIONS = ("ETag", "etag", "generation", "LastModified", "mtime", "updated", "created")


def status_of(url: str, seconds: float) -> RemoteStatus:
    """Size and version of a file. Raises TransientError or PermanentError with the reason."""
    found = _call(url, "info", seconds)
    if found.get("type") == "directory" or not isinstance(found.get("size"), int):
        raise PermanentError("it is no file")
    version = next((str(found[name]) for name in _VERSIONS if found.get(name)), "")
    return RemoteStatus(size=found["size"], version=version[:MAX_VERSION_CHARACTERS])


def fetch_range(url: str, offset: int, length: int, seconds: float) -> bytes:
    """The `length` bytes at `offset`. Raises TransientError or PermanentError with the reason."""
    data = _call(url, "cat_file", seconds, start=offset, end=offset + length)
    if len(data) != length:
        raise TransientError(f"the answer has {len(data)} of {length} bytes")
    return data


def matches(pattern: str, seconds: float) -> list[str]:
    """The addresses of the files that match, by name; the pattern itself where it is none."""
    if not glob.has_magic(pattern):
        return [pattern]
    scheme = pattern.partition("://")[0]
    found = _call(pattern, "glob", seconds, detail=True)
    files = sorted(path for path, facts in found.items() if facts.get("type") == "file")
    return [f"{scheme}://{path.lstrip('/')}" for path in files]


def _call(url: str, name: str, seconds: float, **arguments: Any) -> Any:
    scheme = url.partition("://")[0]
    try:
        # fsspec keeps one instance per process and makes a new one after a fork. A kept listing
        # would hide that a file has changed.
        files = fsspec.filesystem(scheme, use_listings_cache=False)
        path = files._strip_protocol(url)
        if isinstance(files, AsyncFileSystem):
            step: Callable[..., Awaitable[Any]] = getattr(files, f"_{name}")
            return sync(files.loop, step, path, timeout=seconds, **arguments)
        return getattr(files, name)(path, **arguments)
    except ImportError as error:
        raise UserError(
            f"{scheme}:// needs a package that is not installed ({' '.join(str(error).split())}); "
            "install it with: pip install 'rins_mm[remote]'"
        ) from error
    except FileNotFoundError as error:
        raise PermanentError("there is no such file") from error
    except PermissionError as error:
        raise PermanentError("access is denied") from error
    except TimeoutError as error:
        raise TransientError(f"no answer within {seconds:.3g} s") from error
    # Every store raises exceptions of its own; none of them may end a run without its address.
    except Exception as error:
        words = " ".join(str(error).split())[:100]
        raise TransientError(f"{type(error).__name__} {words}".rstrip()) from error
