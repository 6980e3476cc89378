"""The one exception for what a user can get wrong, and how an entry point ends on it."""

import errno
import os
import sys
from collections.abc import Callable

from data_pipelines.words import printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The operating system's errors for a full disk, an exceeded quota, and a limit on the size of files."""

UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
"""Its errors for a path that may not be written, or is a file where a folder is needed, or the reverse."""


MAX_CHARACTERS = 2_000
"""Of a message."""
_END = 500
"""Characters at the end of a message that stay: the mend stands there."""


class UserError(Exception):
    """A mistake in what was given: one line that names what was wrong, the value, and the mend.

    It may quote what comes from outside: characters that are not shown as themselves (line breaks,
    escapes of terminals, changes of direction) become escapes, and what is too long loses its middle.
    """

    def __init__(self, line: str) -> None:
        if not line.isprintable():
            line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if len(line) > MAX_CHARACTERS:
            line = f"{line[: MAX_CHARACTERS - _END - 3]} … {line[-_END:]}"
        super().__init__(line)


def run_command(main: Callable[[list[str]], None]) -> None:
    """Run an entry point; a user's mistake or a full disk ends in one line and exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Names of files stand in messages, and a terminal obeys what is in them.
        print(f"error: {printable(_in_one_line(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _in_one_line(error: OSError) -> str:
    """What to do about a disk or a path that cannot be used; any other error is raised again."""
    if error.errno in FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return (
            f"no space is left{where} ({error.strerror}); free some space or name a folder "
            "on another disk, then run again"
        )
    if error.errno in UNUSABLE and error.filename:
        return (
            f"cannot use {error.filename} ({error.strerror}); name another path, or mend this one"
        )
    raise error
