"""Fuzz the readers of what comes from outside.

python tests/fuzz tar --minutes 10 --seed 1
python tests/fuzz all --minutes 1 --out fuzz.json --findings found
python tests/fuzz tar --replay found/tar-0
"""

import argparse
import importlib
import json
import marshal
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers"), str(HERE.parents[1])]
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from target import Target  # noqa: E402
from watching import watched  # noqa: E402

TARGETS = (
    "tar",
    "shard_index",
    "signature",
    "config",
    "checkpoint",
    "export",
    "search_index",
    "picture",
    "caption",
)
MAX_MEGABYTES_PER_MINUTE = 1.0
OF_TENSORS = {"checkpoint": 3.0, "export": 3.0}
"""The same where safetensors reads: 0.8.0 keeps 64 bytes of every tensor, up to 2 MB a minute of small ones."""
SPARE_FILES = 5
"""Open at the end and not at the beginning: libraries open some when they are first used."""


def main(argv: list[str]) -> int:
    """Fuzz the targets that are named; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", choices=[*TARGETS, "planted", "all"])
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of a processor, for each target"
    )
    parser.add_argument("--least", type=int, default=0, help="inputs of each target, however long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON to add the records to, one for each target")
    parser.add_argument("--findings", type=Path, help="folder for the inputs of what was found")
    parser.add_argument("--replay", type=Path, help="a folder of one input: try that alone")
    command = parser.parse_args(argv)
    names = TARGETS if "all" in command.targets else command.targets
    if command.replay:
        return replay(target_of(names[0]), command.replay)
    clean = True
    for name in names:
        record = watched(
            target_of(name), seconds=command.minutes * 60, seed=command.seed, least=command.least
        )
        clean = told(record, command.findings) and clean
        if command.out:
            write(record, command.out)
    return 0 if clean else 1


def target_of(name: str) -> Target:
    """The target of that name; only its own modules are imported."""
    return importlib.import_module(f"target_{name}").TARGET


def told(record: dict[str, Any], findings_folder: Path | None) -> bool:
    """Print a record; whether nothing is wrong. Inputs of what was found become folders."""
    slope = record["resident_megabytes_per_minute"]
    most = OF_TENSORS.get(record["target"], MAX_MEGABYTES_PER_MINUTE)
    grows = slope is not None and record["cpu_minutes"] >= 5 and slope > most
    leaks = record["open_files"][1] > record["open_files"][0] + SPARE_FILES
    print(
        f"{record['target']}: {record['executions']:,} inputs in {record['cpu_minutes']} minutes of a processor, "
        f"{record['accepted']:,} accepted, {record['distinct_outcomes']} outcomes, slowest "
        f"{record['slowest_cpu_seconds']} s, memory {record['peak_megabytes_over_rest']} MB and "
        f"{slope} MB/min{' GROWS' if grows else ''}, open files {record['open_files']}{' LEFT OPEN' if leaks else ''}, "
        f"{len(record['findings'])} findings",
        flush=True,
    )
    inputs = {"slowest": (record.pop("slowest_input"), "the slowest input")}
    for number, (kind, entry) in enumerate(record["findings"].items()):
        print(f"  {entry['count']:,} x {kind}", flush=True)
        for place, data in enumerate(entry.pop("inputs")):
            inputs[f"{number}-{place}"] = data, f"{kind}\n\n{entry['detail']}"
        # Tracebacks name folders of whoever searched: they stay beside the inputs.
        del entry["detail"]
    for name, (data, what) in inputs.items():
        if findings_folder and data:
            keep(data, what, findings_folder / f"{record['target']}-{name}")
    return not (record["findings"] or grows or leaks)


def keep(data: str, what: str, folder: Path) -> None:
    """Lay an input down as a folder that can be tried again."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in marshal.loads(bytes.fromhex(data)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "WHAT").write_text(f"{what}\n", errors="replace")


def write(record: dict[str, Any], out: Path) -> None:
    """Put the record into the file, in the place of an earlier one of the same target."""
    known = json.loads(out.read_text()) if out.exists() else {}
    unfinished = out.with_name(f".{out.name}.partial")
    unfinished.write_text(json.dumps({**known, record["target"]: record}, indent=1) + "\n")
    unfinished.replace(out)


def replay(target: Target, folder: Path) -> int:
    """Try one input; what it raises is shown whole."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "WHAT"
    }
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        os.environ["RINS_MM_CACHE"] = f"{name}/cache"
        (Path(name) / "input").mkdir()
        try:
            print(target.attempt(files, Path(name) / "input"))
        except target.documented as error:
            print(f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
