"""Gives each hostile input to its reader in a process of its own and prints what came of it, as JSON.

    python tests/helpers/hostile_child.py EMPTY_FOLDER

Every process is forked from this one, which has imported the readers and never torch; so its time and
memory are those of the input alone. A hook of the interpreter notes each command, connection, and
file written outside the folder of the input.
"""

import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import hostile
from hostile_pictures import encoded, png
from hostile_tars import sample
from hostile_tokenizers import lay_down

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.index import read_or_build_index
from data_pipelines.manifest import dataset_of
from data_pipelines.samples import decoded_sample
from data_pipelines.sources import resolve_shards
from data_pipelines.tokenizers import load_tokenizer

SECONDS_LIMIT = 10
ADDRESS_SPACE_LIMIT = 4 * 2**30
"""Most that one input may ask for: the machine shall survive what gets past the reader."""
COMMANDS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
CHANGES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.truncate", "os.chmod")


def outcome_of(case: hostile.Case, folder: Path) -> str:
    """What the reader says of the input that lies in the folder."""
    path = folder / "input"
    match case.kind:
        case "tar":
            return shard_outcome(folder / "a.tar")
        case "sidecar":
            return shard_outcome(folder / "a.tar")
        case "picture":
            height, width, _ = decode_picture(path.read_bytes()).shape
            return f"picture {height} x {width}"
        case "record":
            record = read_record({"json": path.read_bytes()})
            return f"caption {caption_of(record, CaptionConfig(kind='label'), 1)!a}"
        case "spec":
            return (
                f"shards {resolve_shards([path.read_bytes().decode('utf-8', 'surrogateescape')])}"
            )
        case "tokenizer":
            return f"tokenizer {load_tokenizer(folder).fingerprint}"
    raise ValueError(case.kind)


def shard_outcome(shard: Path) -> str:
    """How many samples there are, and what was passed over or bad in them."""
    index = read_or_build_index(shard)
    dataset = dataset_of([index])
    found = Counter(index.skipped)
    for number in range(dataset.num_samples):
        try:
            _, record = decoded_sample(dataset, number)
            caption_of(record, CaptionConfig(kind="text"), 1)
        except BadSample as bad:
            found[bad.cause] += 1
    causes = ", ".join(f"{cause}: {count}" for cause, count in sorted(found.items()))
    return f"samples {dataset.num_samples} {causes}"


def prepare(case: hostile.Case, folder: Path) -> None:
    """Lay the input down as its reader expects it."""
    folder.mkdir()
    content = case.make()
    if case.kind == "tar":
        (folder / "a.tar").write_bytes(content)
    elif case.kind == "sidecar":
        (folder / "a.tar").write_bytes(sample())
        (folder / "a.tar.index.npz").write_bytes(content)
        os.utime(folder / "a.tar", ns=(0, 0))
    elif case.kind == "tokenizer":
        lay_down(folder, content)
    else:
        (folder / "input").write_bytes(content)
    if case.kind == "spec":
        (folder / "good.tar").write_bytes(sample())
        os.mkfifo(folder / "fifo.tar")
        (folder / "link.tar").symlink_to("/dev/zero")


def run(case: hostile.Case, folder: Path) -> dict[str, object]:
    """What came of the input, in how many seconds, and with how many MB more than at rest."""
    prepare(case, folder)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as report:
            json.dump(tried(case, folder), report)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        text = report.read()
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    ended = f"ended by signal {status & 127}" if status & 127 else f"ended by {status >> 8}"
    limit = float(SECONDS_LIMIT)
    costs = {"seconds": limit, "working_seconds": limit, "megabytes": 0.0}
    return {"outcome": ended, **costs, "breaches": []}


def tried(case: hostile.Case, folder: Path) -> dict[str, object]:
    """In a process of its own: the reader's word on the input, and what it cost."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_LIMIT,) * 2)
    signal.alarm(SECONDS_LIMIT)
    breaches: list[str] = []
    sys.addaudithook(lambda event, details: note_breach(event, details, folder, breaches))
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, begin_working = time.perf_counter(), time.process_time()
    try:
        outcome = outcome_of(case, folder)
    except (UserError, BadSample) as error:
        outcome = f"{type(error).__name__}: {error}"
    # Whatever else comes through is the defect that is looked for.
    except BaseException as error:
        outcome = f"escaped: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - begin
    working = time.process_time() - begin_working
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "outcome": outcome[:2000],
        "seconds": seconds,
        "working_seconds": working,
        "megabytes": (peak - idle) / 1024,
        "breaches": list(breaches),
    }


def note_breach(event: str, details: tuple, folder: Path, breaches: list[str]) -> None:
    """Note what an input may never cause."""
    if event.startswith("socket.") or event in COMMANDS or event == "pickle.find_class":
        breaches.append(f"{event} {details!r:.200}")
    elif event in CHANGES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
        path = os.path.abspath(os.fsdecode(details[0])) if not isinstance(details[0], int) else ""
        allowed = (f"{folder}{os.sep}", os.environ["RINS_MM_CACHE"])
        if path and path != str(folder) and not path.startswith(allowed):
            breaches.append(f"{event} {path}")


def main(folder: Path) -> None:
    """Try the whole corpus in the folder, one line of JSON for each input."""
    assert "torch" not in sys.modules, "the readers have imported torch"
    # Pictures and arrays bring modules along at their first use.
    png()
    for kind in ("JPEG", "PNG", "WEBP"):
        decode_picture(encoded(kind))
    for number, case in enumerate(hostile.cases()):
        found = run(case, folder / f"{number:03d}")
        told = {"kind": case.kind, "name": case.name, "expected": case.expected, **found}
        print(json.dumps(told), flush=True)
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
