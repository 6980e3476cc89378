"""What an input may cost and touch, and how it is noticed that it did more."""

import gc
import os
import resource
import sys
from pathlib import Path
from typing import Any

MAX_SECONDS = 2.0
"""CPU seconds of one input: what else runs on the machine is not the reader's."""
HANG_CPU_SECONDS = 20.0
"""After which the process is killed."""
HANG_SECONDS = 300.0
"""The same by the clock, for what waits; a busy machine makes little of a second."""
MAX_MEGABYTES = 300.0
"""Memory of one input over that at rest."""
ADDRESS_SPACE = 4 << 30
"""Most that one input may ask for: the machine shall survive it."""

COMMANDS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
)
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
)
FORBIDDEN = ("pickle.find_class", *COMMANDS)


class Sentinel:
    """Notes commands, sockets, pickles, code, and files outside of the input's folder."""

    def __init__(self, folder: Path) -> None:
        self.breaches: list[str] = []
        self.armed = False
        self._folder = str(folder)
        prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[2])}
        self._readable = (
            self._folder,
            "/proc/self/",
            "<frozen ",
            *(f"{Path(prefix).resolve()}/" for prefix in prefixes),
        )
        sys.addaudithook(self._hook)

    def _hook(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event.startswith("socket.") or event in FORBIDDEN:
            self._note(f"{event} {details!r:.200}")
        elif event == "exec":
            # What is imported late is code of an installed package.
            if not str(details[0].co_filename).startswith(self._readable):
                self._note(f"exec {details[0].co_filename}")
        elif event in CHANGES or event == "open":
            if isinstance(details[0], int) or details[0] is None:
                return
            path = os.path.abspath(os.fsdecode(details[0]))
            writes = event != "open" or bool(details[2] & (os.O_WRONLY | os.O_RDWR))
            if not path.startswith(self._folder if writes else self._readable):
                self._note(f"{event} {path}")

    def _note(self, breach: str) -> None:
        if len(self.breaches) < 100:
            self.breaches.append(breach)


def limit_address_space() -> None:
    """Let no input ask for all of the machine's memory: what asks for more gets a MemoryError."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE, most))


def resident_megabytes() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_megabytes() -> float:
    """Most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds_of(process: int) -> float:
    """What a process has used; 0 where it has gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files() -> int:
    """Descriptors of this process, without those that only wait for the collector of garbage."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
