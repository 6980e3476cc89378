"""Make shards of small scenes and true sentences about them, so that the order of words decides.

    python -m data_pipelines.prepare.scenes OUT --num-samples 300000 --split train
    python -m data_pipelines.prepare.scenes OUT --num-samples 2000 --split test

Samples come in groups of siblings that differ by the smallest edits. A run that was cut off goes on
when its command is given again, and ends with the same bytes.
"""

import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import PIL
import torch
import tyro
from jaxtyping import UInt8
from torch import Tensor

from data_pipelines.errors import UserError, run_command
from data_pipelines.prepare.unfinished import Journal, Plan, open_journal
from data_pipelines.prepare.worker_pool import WorkerDiedError, answers, usable_cores
from data_pipelines.progress import with_progress
from data_pipelines.scenes.cut_outs import EMOJI, EMOJI_CREDIT, names, read_cut_outs, silhouettes
from data_pipelines.scenes.drafts import CONSTRUCTIONS
from data_pipelines.scenes.render import atlas_fingerprint, atlas_of
from data_pipelines.scenes.samples import (
    FORMAT_VERSION,
    SceneSource,
    accidental_truths,
    shard_samples,
)
from data_pipelines.scenes.siblings import NoGroupError
from data_pipelines.scenes.world import Split, World
from data_pipelines.shard_writer import WrittenShard, write_shard
from data_pipelines.whole_files import write_whole
from data_pipelines.words import say

GROUPS_COMPARED = 250
"""Groups whose captions and pictures are compared with each other's for dataset.json."""


@dataclass(frozen=True, kw_only=True)
class ScenesConfig:
    """Make shards of small scenes and true sentences about them."""

    out: tyro.conf.Positional[Path]
    """Folder; the shards go into a folder in it that is named by the split."""
    num_samples: int
    """Samples to make: a multiple of --siblings."""
    split: Split = "train"
    """combinations: each caption combines words as training never does; concepts: each tells relations of
    kinds of which training tells none. All but train have foils."""
    seed: int = 0
    """Other seeds give other samples."""
    cut_outs: str = EMOJI
    """Folder of transparent PNGs, named by what they show; or emoji."""
    num_kinds: int = 21
    """Kinds of things, the first ones of the cut-outs. All splits need the same."""
    picture_size: int = 32
    """Width and height of the pictures in pixels; a multiple of 8."""
    siblings: int = 4
    """Samples in a row that differ by small edits."""
    constructions: tuple[str, ...] = ()
    """What captions are like: pair, both, clause, choice, nested, counts, more, exclusion, everything, story,
    changes, each, signs; a name may come several times. Without a name all but the last three, equally often."""
    samples_per_shard: int = 4000
    """Samples in each shard but the last: a multiple of --siblings."""
    workers: int = field(default_factory=usable_cores)
    """Processes that make shards; 0 makes them in this one. The shards do not depend on it."""
    overwrite: bool = False
    """Replace what an earlier run left of the split, finished or not."""


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One shard to be made."""

    path: Path
    numbers: range
    source: SceneSource
    cut_outs: str
    picture_size: int


def main(argv: list[str]) -> None:
    """Draw scenes, say what is true of them, write shards."""
    config = tyro.cli(ScenesConfig, args=argv, prog="python -m data_pipelines.prepare.scenes")
    _check(config)
    cut_outs = read_cut_outs(config.cut_outs, config.num_kinds)
    source = SceneSource(
        world=World(kinds=names(cut_outs), silhouettes=silhouettes(cut_outs)),
        split=config.split,
        seed=config.seed,
        num_siblings=config.siblings,
        constructions=config.constructions,
    )
    fingerprint = atlas_fingerprint(atlas_of(cut_outs, config.picture_size))
    plan = _plan(config, source, fingerprint)
    out = config.out / config.split
    try:
        with closing(open_journal(out, plan, overwrite=config.overwrite)) as journal:
            shards = _write(config, source, out, journal)
            description = _description(config, source, plan, shards)
            write_whole(out / "dataset.json", json.dumps(description, indent=2), overwrite=True)
            journal.finish()
    except NoGroupError as error:
        raise UserError(
            f"no {error} has {config.siblings} siblings of which each can be told from the others; "
            "give fewer --siblings, other --constructions or more --num-kinds"
        ) from error
    except WorkerDiedError as error:
        raise UserError(
            f"a worker process died while it made {error.task.path.name}, perhaps for want of memory; "
            "what is done is kept: give fewer --workers, and run again"
        ) from error
    except KeyboardInterrupt:
        print(
            "interrupted; the same command, without --overwrite, goes on from here", file=sys.stderr
        )
        raise
    say(
        f"wrote {config.num_samples:,} samples in {len(shards):,} shards to {out}; captions that are "
        f"true of a picture of another group: {description['accidental_truths']:.3%}"
    )


def make_shard(task: ShardTask) -> WrittenShard:
    """Write one shard."""
    torch.set_num_threads(1)
    atlas = _atlas(task.cut_outs, len(task.source.world.kinds), task.picture_size)
    return write_shard(
        task.path, shard_samples(task.source, task.numbers, atlas, task.picture_size)
    )


def _write(
    config: ScenesConfig, source: SceneSource, out: Path, journal: Journal
) -> list[WrittenShard]:
    """All shards; those that the journal has are taken as they are."""
    tasks = [
        ShardTask(
            path=out / f"{config.split}-{number:05d}.tar",
            numbers=range(start, min(config.num_samples, start + config.samples_per_shard)),
            source=source,
            cut_outs=config.cut_outs,
            picture_size=config.picture_size,
        )
        for number, start in enumerate(range(0, config.num_samples, config.samples_per_shard))
    ]
    due = [task for task in tasks if task.path.name not in journal.shards]
    with closing(answers(make_shard, due, config.workers)) as made:
        for _, shard in with_progress(made, total=len(due), label="making shards"):
            journal.add_shard(shard)
    return [journal.shards[task.path.name] for task in tasks]


@lru_cache(maxsize=1)
def _atlas(cut_outs: str, num_kinds: int, picture_size: int) -> UInt8[Tensor, "K 2 2 P P"]:
    return atlas_of(read_cut_outs(cut_outs, num_kinds), picture_size)


def _plan(config: ScenesConfig, source: SceneSource, fingerprint: str) -> Plan:
    """What an unfinished run and the one that goes on with it must share; workers are no part of it."""
    plan: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        **{name: value for name, value in asdict(source).items() if name != "world"},
        "constructions": list(source.constructions or CONSTRUCTIONS),
        "kinds": list(source.world.kinds),
        "num_samples": config.num_samples,
        "samples_per_shard": config.samples_per_shard,
        "picture_size": config.picture_size,
        "drawings": fingerprint,
        "pillow": PIL.__version__,
    }
    return plan


def _description(
    config: ScenesConfig, source: SceneSource, plan: Plan, shards: list[WrittenShard]
) -> dict[str, Any]:
    """What was made, what training never says, and what checks the shards."""
    num_groups = min(GROUPS_COMPARED, config.num_samples // config.siblings)
    true, unclear = accidental_truths(source, num_groups) if num_groups > 1 else (0.0, 0.0)
    world = source.world
    return {
        **plan,
        "accidental_truths": true,
        "unclear": unclear,
        "concepts": sorted(world.concepts),
        "new_colours": sorted(world.new_colours),
        "new_relations": sorted(world.new_relations),
        "credits": EMOJI_CREDIT if config.cut_outs == EMOJI else "",
        "shards": [
            {
                "name": shard.path.name,
                "num_samples": shard.num_samples,
                "num_bytes": shard.num_bytes,
                "sha256": shard.sha256,
            }
            for shard in shards
        ],
    }


def _check(config: ScenesConfig) -> None:
    if config.siblings < 1:
        raise UserError(f"--siblings is {config.siblings}; it must be at least 1")
    for name in ("num_samples", "samples_per_shard"):
        value = getattr(config, name)
        if value < 1 or value % config.siblings:
            raise UserError(
                f"--{name.replace('_', '-')} is {value}; it must be a multiple of {config.siblings}, "
                "the number of siblings"
            )
    if config.workers < 0:
        raise UserError(f"--workers is {config.workers}; it must be at least 0")
    unknown = [name for name in config.constructions if name not in CONSTRUCTIONS]
    if unknown:
        raise UserError(
            f"there is no construction {unknown[0]!r}; there are {', '.join(CONSTRUCTIONS)}"
        )


if __name__ == "__main__":
    run_command(main)
