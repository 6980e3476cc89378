"""What all processes of one command hold: memory, files, threads, sockets, shared memory.

The processes are found by a mark in their environment, which children inherit: so those are counted too
whose parents have died.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "RINS_MM_CENSUS"
"""Variable of the environment that marks a command and all that it starts."""

SHARED_MEMORY = Path("/dev/shm")
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What reading about a process raises that ends at this moment, or belongs to another user."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What one process holds."""

    process: int
    name: str
    megabytes: dict[str, float]
    """Resident ("resident"), of that its part of what is shared ("all"), and of that what is no file ("own")."""
    threads: int
    files: tuple[str, ...]
    """What its open descriptors lead to."""
    shared_memory: frozenset[str]
    """Names below /dev/shm that it has mapped."""

    @property
    def sockets(self) -> frozenset[int]:
        """The inodes of its open sockets."""
        return frozenset(int(file[8:-1]) for file in self.files if file.startswith("socket:["))


def take_census(mark: str) -> list[Holding]:
    """What each living process with this mark holds."""
    processes = marked(mark)
    names = _names(processes)
    holdings = []
    for process in processes:
        with suppress(*GONE):
            folder = Path(f"/proc/{process}")
            holdings.append(
                Holding(
                    process=process,
                    name=names[process],
                    megabytes=megabytes_of([process]),
                    threads=len(os.listdir(folder / "task")),
                    files=tuple(_files(folder)),
                    shared_memory=frozenset(
                        re.findall(r" /dev/shm/(\S+)$", (folder / "maps").read_text(), re.MULTILINE)
                    ),
                )
            )
    return holdings


def marked(mark: str) -> list[int]:
    """The living processes with this mark, in the order of their numbers."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # Of one that is dead and not yet taken note of, the environment is empty.
        with suppress(*GONE):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return sorted(found)


def sockets_of_this_machine() -> set[int]:
    """The inodes of all sockets that the kernel lists."""
    inodes = set()
    for name, column in (("tcp", 9), ("tcp6", 9), ("unix", 6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            inodes.add(int(line.split()[column]))
    return inodes - {0}


def megabytes_of(processes: Sequence[int]) -> dict[str, float]:
    """MB that processes hold together: their parts of all pages, of pages that are no file ("own"), and
    of pages in shared memory ("shared"), where a page counts in equal parts for all that share it
    (PSS); and what is resident, where it counts in each.
    """
    kinds = {
        "Rss": ("resident",),
        "Pss": ("all",),
        "Pss_Anon": ("own",),
        "Pss_Shmem": ("own", "shared"),
    }
    kilobytes = {"all": 0, "own": 0, "shared": 0, "resident": 0}
    for process in processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            for kind in kinds.get(name, ()):
                kilobytes[kind] += int(value.split()[0])
    return {kind: number * 1024 / 1e6 for kind, number in kilobytes.items()}


def _files(folder: Path) -> Iterator[str]:
    for descriptor in os.listdir(folder / "fd"):
        with suppress(*GONE):
            yield os.readlink(folder / "fd" / descriptor)


def _names(processes: Sequence[int]) -> dict[int, str]:
    """A name for each: torchrun, a rank, or what a rank has started."""
    kinds: dict[int, str] = {}
    names: dict[int, str] = {}
    for process in processes:
        try:
            command = Path(f"/proc/{process}/cmdline").read_text()
            environment = Path(f"/proc/{process}/environ").read_text().split("\0")
            parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except GONE:
            names[process] = kinds[process] = "ended"
            continue
        rank = next((line[5:] for line in environment if line.startswith("RANK=")), None)
        kinds[process] = _kind(command, kinds.get(parent))
        name = kinds[process] if rank is None else f"rank {rank} {kinds[process]}"
        number = sum(other.startswith(name) for other in names.values())
        names[process] = f"{name} {number + 1}" if kinds[process] == "worker" else name
    return names


def _kind(command: str, kind_of_parent: str | None) -> str:
    if "torch.distributed.run" in command:
        return "torchrun"
    if "multiprocessing.resource_tracker" in command:
        return "tracker"
    if "multiprocessing.forkserver" in command:
        # Workers are forked from the server, whose command line they keep.
        return "worker" if kind_of_parent in ("server", "worker") else "server"
    return "trainer"
