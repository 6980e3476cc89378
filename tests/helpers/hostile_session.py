"""Every hostile input through every command and loader that takes such a thing; one row for each.

python tests/helpers/hostile_session.py EMPTY_FOLDER [--only WORD …] [--json FILE]
"""

import argparse
import contextlib
import gc
import importlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import hostile_data
import hostile_graphs
import hostile_libraries
import hostile_models
from hostile_files import Input
from hostile_runner import QUIET, Outcome, Place, attempt, entry_point
from hostile_targets import TARGETS, Target

PLACES = {
    "shard": ("shard", "a.tar"), "table_shard": ("table_shard", "a.tar"), "config": ("config.json", ""),
    "deny": ("deny.jsonl", ""), "tokenizer_model": ("tokenizer.model", ""), "uids_text": ("uids.txt", ""),
    "uids": ("uids.npy", ""), "captions_jsonl": ("captions.jsonl", ""), "captions_csv": ("captions.csv", ""),
    "captions_parquet": ("captions.parquet", ""), "weights": ("weights.safetensors", ""),
    "arrays": ("weights.npz", ""), "torch_file": ("weights.pt", ""), "karpathy": ("karpathy.json", ""),
    "results": ("run/eval.json", ""),
}  # fmt: skip
"""Where things lie in the world, and what in them is named; the others lie in folders of their names."""


LIBRARIES = (
    # Before whatever imports torchvision.
    "data_pipelines.torchvision_cpu",
    "transformers.models.siglip.modeling_siglip", "transformers.models.siglip.tokenization_siglip",
    "transformers.models.siglip.processing_siglip", "transformers.models.auto.processing_auto",
    "transformers.models.siglip.image_processing_siglip", "transformers.models.clip.modeling_clip",
    "sentence_transformers", "onnxruntime", "pyarrow.parquet", "scipy.io",
)  # fmt: skip
"""Of others, which commands import late."""


def inputs() -> dict[str, list[Input]]:
    """All hostile inputs by the thing that they are."""
    found: dict[str, list[Input]] = {}
    for maker in (hostile_data, hostile_models, hostile_libraries, hostile_graphs):
        for one in maker.inputs():
            found.setdefault(one.thing, []).append(one)
    return found


QUICKER = 6
"""Times as many inputs of a share are for commands that take no second each."""


def copy_of(thing: str, world: Path, folder: Path) -> tuple[Path, str]:
    """A copy of a sound thing: where it lies, and what names it on the command line."""
    source, inner = PLACES.get(thing, (thing, ""))
    path = folder / "thing" / Path(source).name
    path.parent.mkdir(exist_ok=True)
    if (world / source).is_dir():
        shutil.copytree(world / source, path, symlinks=True)
    else:
        shutil.copy2(world / source, path)
    return path, str(path / inner)


class Maker:
    """Makes things hostile in a process of its own: what that takes would count as memory of every later trial.

    Begun before this process has imported much; to fork anew for each input would cost as much as a trial.
    """

    def __init__(self, known: dict[str, list[Input]]) -> None:
        asking, self._asked = os.pipe()
        self._told, telling = os.pipe()
        if os.fork() == 0:
            os.close(self._asked)
            for line in os.fdopen(asking):
                thing, number, path = json.loads(line)
                try:
                    known[thing][number].spoil(Path(path))
                    answer = b"made\n"
                except BaseException:
                    traceback.print_exc()
                    answer = b"not made\n"
                os.write(telling, answer)
            os._exit(0)
        os.close(asking)
        os.close(telling)
        self._numbers = {
            id(one): (thing, n) for thing, some in known.items() for n, one in enumerate(some)
        }

    def spoil(self, spoilt: Input, path: Path) -> None:
        """Make a copy of the sound thing hostile."""
        thing, number = self._numbers[id(spoilt)]
        os.write(self._asked, (json.dumps([thing, number, str(path)]) + "\n").encode())
        if os.read(self._told, 100) != b"made\n":
            raise RuntimeError(f"{spoilt} could not be made")


def trial(
    target: Target, thing: str, spoilt: Input | None, world: Path, folder: Path, maker: Maker
) -> Outcome:
    """Run the target with this thing made hostile (None: sound), and all others sound."""
    path, word = copy_of(thing, world, folder)
    named = {"world": str(world), "out": str(folder / "out")}
    writes = {thing: path} if thing in target.writes else {}
    for other in target.things():
        source, inner = PLACES.get(other, (other, ""))
        named[other] = str(world / source / inner)
        if other in target.writes and other != thing:
            # The sound ones in the world stay as they are.
            writes[other], named[other] = copy_of(other, world, folder)
    if spoilt is not None and spoilt.kind == "name" and spoilt.word and thing in writes:
        # The folder itself gets the name.
        writes[thing] = path.parent / spoilt.word[1:]
    place = Place(
        folder=folder, writes=tuple(str(path) for path in writes.values()), asks=target.asks
    )
    place.make()
    if spoilt is not None:
        maker.spoil(spoilt, path)
        if spoilt.word:
            word = str(path.parent / spoilt.word[1:]) if spoilt.word[0] == "@" else spoilt.word
    named[thing] = word
    words = []
    for word in target.words:
        for name, value in named.items():
            word = word.replace(f"{{{name}}}", value)
        words.append(word)
    return attempt(target.module, words, place)


def rows(
    folder: Path, targets: Sequence[Target], kinds: tuple[str, ...] = (), share: int = 1
) -> Iterator[dict[str, object]]:
    """A row for each command and thing with the sound one, and for each hostile input after it."""
    world = folder / "world"
    if not world.exists():
        # It imports torch and more, which the data engine does without.
        from hostile_world import quietly_built

        quietly_built(world)
    known = inputs()
    maker = Maker(known)
    number = 0
    for place_in_list, target in enumerate(targets):
        warm(target)
        for thing in target.things():
            idle: Outcome | None = None
            every = share if target.is_slow else max(1, share // QUICKER)
            # Of each thing at least one.
            first = place_in_list % min(every, len(known[thing]))
            chosen = known[thing][first::every]
            for spoilt in [None, *chosen]:
                if (
                    kinds
                    and spoilt is not None
                    and not any(k in f"{spoilt.kind}: {spoilt.name}" for k in kinds)
                ):
                    continue
                place = folder / f"{number:05d}"
                place.mkdir()
                number += 1
                found = trial(target, thing, spoilt, world, place, maker)
                shutil.rmtree(place)
                if spoilt is None:
                    idle = found
                assert idle is not None
                yield row(target, thing, spoilt, found, idle)


def row(
    target: Target, thing: str, spoilt: Input | None, found: Outcome, idle: Outcome
) -> dict[str, object]:
    """What the table says of one trial; costs over those of the sound input."""
    told = asdict(found)
    told["seconds"] = round(max(0.0, found.seconds - idle.seconds), 3)
    told["megabytes"] = round(max(0.0, found.megabytes - idle.megabytes), 1)
    told["waited"] = round(found.waited, 3)
    told["own"] = [round(found.seconds, 3), round(found.megabytes)]
    kind, name = (spoilt.kind, spoilt.name) if spoilt else ("sound", "sound")
    return {"command": target.name, "thing": thing, "kind": kind, "name": name, **told}


def warm(target: Target) -> None:
    """Import what the command imports, also what it imports late; the less there is, the cheaper is a fork."""
    if target.module.startswith(("rins_mm", "hostile")):
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    entry_point(target.module)
    # What is here stays shared with the trials: to collect garbage would copy all of it in each.
    gc.collect()
    gc.freeze()


def main(argv: list[str]) -> None:
    """Try all and print a line for each row that is not as it should be, and the costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument(
        "--share",
        type=int,
        default=1,
        help=f"of slow commands every so-manieth input, of others {QUICKER} times as many",
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    os.environ.update(QUIET)
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    targets = [
        one for one in TARGETS if not asked.only or any(word in one.name for word in asked.only)
    ]
    begun = time.perf_counter()
    lines = []
    for one in rows(folder, targets, tuple(asked.kinds), asked.share):
        lines.append(json.dumps(one))
        print(lines[-1], flush=True)
    print(f"{len(lines)} rows in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    if asked.json:
        asked.json.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
