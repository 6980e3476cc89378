"""Runs a command on an input in a process of its own, and says what came of it and what it cost.

The process is forked from one that has imported everything, so that a trial costs no more than its
work. A hook of the interpreter notes each program, connection and file written where none may be; what
native code writes is found by looking at the folders afterwards.
"""

import contextlib
import importlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostile_settings import OUTSIDE

from data_pipelines.errors import run_command

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RINS_MM_REMOTE_TIMEOUT": "2",
}
"""For libraries that would look for a hub, or start threads that a trial cannot have; and no long waits."""
SECONDS_LIMIT = 90.0
"""After so long a trial is ended: it waits for something that never comes."""
ADDRESS_SPACE_LIMIT = 8 * 2**30
"""Most that a trial may ask for: the machine shall survive what gets past the readers."""
MAX_SHOWN = 400
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
CHANGES = (
    "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod",
)  # fmt: skip
CONNECTIONS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")
OWN_PROGRAMS = ("torch_file_child.py", "consumers/run.py")
"""Of this project, which read what is not trusted in processes with limits."""
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "/")
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, or what makes a line read as another."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The folders of one trial."""

    folder: Path
    writes: tuple[str, ...]
    """Beginnings of the paths that the command may write, beside the output and temporary files."""
    asks: bool = False
    """The command reads the data that a configuration names, also over HTTP."""

    def make(self) -> None:
        """Make them, empty."""
        for name in ("cwd", "home", "tmp", "out"):
            (self.folder / name).mkdir(parents=True)

    def may_write(self, path: str) -> bool:
        """Whether the command may write there."""
        # An index of a shard lies beside it, made under another name.
        if re.search(r"\.index\.npz(\.\d+\.unfinished)?$", path) or path.startswith("/dev/"):
            return True
        allowed = [str(self.folder / name) for name in ("out", "tmp", "cache")]
        return path.startswith((*allowed, *self.writes))

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file of the trial with its size and time, those that may be written left out."""
        found = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(place, name)
                if not self.may_write(path):
                    status = os.lstat(path)
                    found[path] = (status.st_size, status.st_mtime_ns)
        return found


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one trial."""

    outcome: str
    """accepted, refused: LINE, told (exit code 1), or what should not be: escaped, ended, hung."""
    seconds: float
    """Of the processors, the trial's children with it: other work on the machine does not count."""
    waited: float
    """Seconds by the clock."""
    megabytes: float
    """Peak of the memory, of the greatest process."""
    breaches: tuple[str, ...]
    """Programs, connections, writes elsewhere, canaries, and words that are not fit to be shown."""


def entry_point(module: str) -> Callable[[list[str]], None]:
    """The function behind `python -m module`."""
    found = importlib.import_module(module)
    if not hasattr(found, "main"):
        found = importlib.import_module(f"{module}.__main__")
    return found.main


def attempt(module: str, argv: Sequence[str], place: Place) -> Outcome:
    """Run `python -m module argv` there, in a child of this process."""
    before = place.files()
    log, notes = place.folder / "log", place.folder / "notes"
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        _child(module, argv, place, log, notes)
    status, usage = _ended(child, begun + SECONDS_LIMIT)
    waited = time.perf_counter() - begun
    text = log.read_bytes().decode("utf-8", "replace")
    breaches = notes.read_text().splitlines() if notes.exists() else []
    log.unlink()
    notes.unlink(missing_ok=True)
    after = place.files()
    breaches += [f"changed {path}" for path in after if after[path] != before.get(path)]
    breaches += [f"removed {path}" for path in before if path not in after]
    breaches += [f"left {path}" for path in (place.folder / "tmp").rglob("*")]
    breaches += [f"canary {path}" for path in place.folder.rglob("ran-canary*")]
    if found := UNFIT.search(text):
        breaches.append(f"prints {found[0]!a}")
    return Outcome(
        outcome=_outcome(status, text),
        seconds=usage.ru_utime + usage.ru_stime,
        waited=waited,
        megabytes=usage.ru_maxrss / 1024,
        breaches=tuple(breaches),
    )


def _ended(child: int, deadline: float) -> tuple[int | None, resource.struct_rusage]:
    """The status of the child (None: it was ended here), and what it used."""
    hung = False
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            # What it may have started and left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            return (None if hung else status), usage
        if time.perf_counter() > deadline:
            hung = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)


def _outcome(status: int | None, text: str) -> str:
    if status is None:
        return f"hung: {text[-200:]!r}"
    if os.WIFSIGNALED(status):
        return f"ended by signal {os.WTERMSIG(status)}: {text[-200:]!r}"
    code = os.waitstatus_to_exitcode(status)
    lines = text.splitlines()
    if code == 99:
        return f"escaped: {lines[-1] if lines else ''}"[:MAX_SHOWN]
    if code == 0:
        return "accepted"
    refusals = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if code == 2 and refusals == [len(lines) - 1]:
        return f"refused: {lines[-1][7:]}"[:MAX_SHOWN]
    if code == 1 and lines and "Traceback" not in text:
        return f"told: {lines[-1]}"[:MAX_SHOWN]
    return f"ended with code {code}: {text[-MAX_SHOWN:]!r}"


def _child(module: str, argv: Sequence[str], place: Place, log: Path, notes: Path) -> None:
    """Never returns."""
    code = 99
    try:
        os.setpgid(0, 0)
        for name, source in (("1", log), ("2", log)):
            os.dup2(os.open(source, os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(name))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        cache = str(place.folder / "cache")
        os.environ.update(QUIET, RINS_MM_CACHE=cache, HOME=str(place.folder / "home"))
        os.environ["TMPDIR"] = str(place.folder / "tmp")
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
        os.chdir(place.folder / "cwd")
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_LIMIT,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = [module, *argv]
        _listen(place, os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        code = _exit_code(entry_point(module))
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exit_code(main: Callable[[list[str]], None]) -> int:
    try:
        run_command(main)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    # Whatever else comes through is the defect that is looked for.
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def _listen(place: Place, notes: int) -> None:
    """From now on, note what an input may never cause."""

    def note(event: str, details: tuple) -> None:
        for breach in breaches_of(event, details, place):
            os.write(
                notes, (breach.replace("\n", " ")[:MAX_SHOWN] + "\n").encode("utf-8", "replace")
            )

    sys.addaudithook(note)


def breaches_of(event: str, details: tuple, place: Place) -> Iterator[str]:
    """What is wrong with an event of the interpreter."""
    if event in PROGRAMS:
        words = details[1] if event == "subprocess.Popen" else details
        own = isinstance(words, list | tuple) and any(
            str(word).endswith(OWN_PROGRAMS) for word in words
        )
        # What made a run is written down with it.
        if not own and words[:1] not in (["git"], ["uname"]):
            yield f"{event} {details!r}"
    elif event == "pickle.find_class":
        yield f"{event} {details!r}"
    elif event in CONNECTIONS:
        address = details[0] if event == "socket.getaddrinfo" else details[1]
        host = address[0] if isinstance(address, tuple) else address
        host = host.decode("utf-8", "replace") if isinstance(host, bytes) else str(host)
        if not host.startswith(LOOPBACK) and not (place.asks and host == OUTSIDE.split("/")[2]):
            yield f"{event} {host}"
    elif event in CHANGES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
        # Of a name in an open folder, or of an open file, the folder is not known here; `files` tells.
        relative = isinstance(details[0], int) or (
            event in ("os.remove", "os.rmdir", "os.mkdir") and details[-1] != -1
        )
        path = "" if relative else os.path.abspath(os.fsdecode(details[0]))
        # To make a folder that is there changes nothing.
        if path and not place.may_write(path) and not (event == "os.mkdir" and os.path.isdir(path)):
            yield f"{event} {path}"
