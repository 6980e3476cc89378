"""A disk that fails, or a process that dies, at one chosen call of those that a save makes."""

import builtins
import errno
import functools
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rins_mm import checkpoint

KILLED = 77
"""Exit code of a child that died at its call."""

KINDS = ("kill", "ENOSPC", "EIO")
CALLS = ("open", "fsync", "rename", "mkdir", "rmdir", "unlink", "chmod")


class Disk:
    """Counts the calls in the order in which they are made; fails at number `fail_at`.

    kill: the process dies there. ENOSPC: this one call fails. EIO: this and all later ones fail.
    """

    def __init__(self, *, fail_at: int = -1, kind: str = "") -> None:
        self.fail_at = fail_at
        self.kind = kind
        self.trace: list[tuple[str, str]] = []
        self.paths: dict[int, str] = {}

    def call(self, operation: str, path: Any, half: Callable[[], Any] = lambda: None) -> None:
        """Note a call, which fails when its turn has come; a write is done by half before."""
        number = len(self.trace)
        self.trace.append((operation, str(path)))
        if number == self.fail_at:
            half()
            if self.kind == "kill":
                os._exit(KILLED)
            raise OSError(getattr(errno, self.kind), f"injected {self.kind}", str(path))
        if self.kind == "EIO" and 0 <= self.fail_at < number:
            raise OSError(errno.EIO, "injected EIO", str(path))

    def install(self) -> None:
        """Stand between Python and the operating system, for the rest of this process."""
        for name in CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        opened = io.open

        def open_file(path: Any, mode: str = "r", *args: Any, **settings: Any) -> Any:
            self.call("open", path)
            file = opened(path, mode, *args, **settings)
            return _Written(file, path, self) if "w" in mode else file

        io.open = builtins.open = open_file
        save_file = checkpoint.save_file

        def save(tensors: Any, path: Path, **settings: Any) -> None:
            def half() -> None:
                save_file(tensors, path, **settings)
                os.truncate(path, path.stat().st_size // 2)

            self.call("write", path, half)
            save_file(tensors, path, **settings)

        checkpoint.save_file = save

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def counted(path: Any, *args: Any, **settings: Any) -> Any:
            if name == "fsync":
                # Counted only: a process that dies loses nothing that it has written, and syncs are slow.
                return self.call(name, self.paths.get(path, path))
            self.call(name, path)
            result = real(path, *args, **settings)
            if name == "open":
                self.paths[result] = str(path)
            return result

        return counted


class _Written:
    """A file that is open for writing."""

    def __init__(self, file: Any, path: Any, disk: Disk) -> None:
        self.file, self.path, self.disk = file, path, disk

    def write(self, text: str) -> int:
        def half() -> None:
            self.file.write(text[: len(text) // 2])
            self.file.flush()

        self.disk.call("write", self.path, half)
        return self.file.write(text)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def in_a_child(function: Callable[[], int]) -> int:
    """What `function` returns (0 to 255) in a fork of this process; 255 where it fails."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        child = os.fork()
    if child == 0:
        end, code = os._exit, 255
        try:
            code = function()
        finally:
            end(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
