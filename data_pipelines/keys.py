"""Print the keys of each global batch, as a run will see them, through the real loader.

python -m data_pipelines.keys emoji:train --batch-size 256 --from-step 100 --steps 2
python -m data_pipelines.keys --run runs/emoji --from-step 100
"""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError, run_command
from data_pipelines.loader import DataConfig, open_training_data, train_batches
from data_pipelines.manifest import Dataset
from data_pipelines.plain_files import read_plain_json
from data_pipelines.plain_values import from_plain
from data_pipelines.stream import Stream

MOST_KEYS = 1 << 20
"""Of a batch: a recorded one may be of any size, and every sample of it is read."""


@dataclass(frozen=True, kw_only=True)
class KeysCommand:
    """Print the keys of each global batch, in the order of its slots."""

    shards: tyro.conf.Positional[tuple[str, ...]] = ()
    """Packs, paths, globs or ranges, such as emoji:train."""
    run: Path | None = None
    """A run's folder, whose data, captions, batch size and seed are taken in place of these options."""
    batch_size: int = 256
    """Samples in a global batch."""
    world_size: int = 1
    """Ranks whose shares are put together; the keys do not depend on it."""
    workers: int = 0
    """Worker processes per rank; the keys do not depend on it."""
    epoch: int = 0
    """Epoch at whose first batch steps count from 0; of a mixture, as many samples as all sources hold."""
    from_step: int = 0
    """First step, counted from the first batch with samples of --epoch."""
    steps: int = 1
    """Global batches to print."""
    seed: int = 0
    """Seed of the run."""
    block_size: int = DataConfig.block_size
    """Samples that are shuffled together, as in the recipe."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    """How captions are chosen, as in the recipe: it decides which samples are bad."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out."""
    json: bool = False
    """One JSON object per batch instead of lines for people."""


@dataclass(frozen=True, kw_only=True)
class BatchKeys:
    """One global batch, slot by slot."""

    step: int
    epochs: tuple[int, ...]
    """The epochs, of whatever source, that it holds samples of, with the smallest first."""
    keys: tuple[str, ...]
    """SHARD:KEY of each slot."""
    bad: dict[str, str]
    """Why samples of it cannot be used, by SHARD:KEY."""


def main(argv: list[str]) -> None:
    """Print the batches that the command line asks for."""
    command = tyro.cli(KeysCommand, args=argv, prog="python -m data_pipelines.keys")
    _check(command)
    if command.run:
        command, config = _as_the_run(command, command.run)
    else:
        config = DataConfig(
            shards=command.shards,
            deny_lists=command.deny_lists,
            captions=command.captions,
            block_size=command.block_size,
        )
    if command.batch_size > MOST_KEYS:
        raise UserError(
            f"a batch of {command.batch_size:,} has more keys than are shown, {MOST_KEYS:,}; look at a smaller one"
        )
    # All bad samples are to be seen here, however many there are, and nothing is made in vain.
    config = replace(config, num_workers=command.workers, prefetch_batches=1, max_bad_fraction=1.0)
    for batch in batch_keys(command, config, open_training_data(config)):
        if command.json:
            print(json.dumps(vars(batch)))
        else:
            named = " and ".join(map(str, batch.epochs))
            print(f"step {batch.step}, epoch {named}, {len(batch.keys)} samples")
            for key in batch.keys:
                # Keys may hold anything; a line break or an escape must not reach a terminal.
                shown = "".join(c if c.isprintable() else "?" for c in key)
                print(f"  {shown}" + (f"  BAD: {batch.bad[key]}" if key in batch.bad else ""))


def batch_keys(command: KeysCommand, config: DataConfig, dataset: Dataset) -> Iterator[BatchKeys]:
    """The global batches, put together from the shares of all ranks."""
    batch_size = command.batch_size
    stream = Stream(dataset, seed=command.seed, block_size=config.block_size)
    start_step = command.epoch * dataset.num_samples // batch_size + command.from_step
    counts = BadSampleCounts()
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                closing(_rank_batches(command, config, dataset, rank, start_step, counts))
            )
            for rank in range(command.world_size)
        ]
        for step, shares in enumerate(zip(*ranks, strict=True), start=start_step):
            slots = zip(*(share.sample_keys for share in shares), strict=True)
            valid = zip(*(share.valid.tolist() for share in shares), strict=True)
            keys = [key for slot in slots for key in slot]
            good = [is_good for slot in valid for is_good in slot]
            causes = {f"{f.shard}:{f.key}": f.cause for f in counts.latest}
            pairs = zip(keys, good, strict=True)
            places = stream[step * batch_size : (step + 1) * batch_size]
            yield BatchKeys(
                step=step,
                epochs=tuple(sorted(set(places.epochs.tolist()))),
                keys=tuple(key for key in keys if key),
                bad={
                    key: causes.get(key, "cannot be used")
                    for key, is_good in pairs
                    if key and not is_good
                },
            )


def _rank_batches(
    command: KeysCommand,
    config: DataConfig,
    dataset: Dataset,
    rank: int,
    start_step: int,
    counts: BadSampleCounts,
) -> Generator[ImageTextBatch, None, None]:
    return train_batches(
        config,
        dataset,
        _NoWords(),
        image_size=1,
        batch_size=command.batch_size,
        seed=command.seed,
        start_step=start_step,
        num_steps=command.steps,
        rank=rank,
        world_size=command.world_size,
        bad_samples=counts,
    )


class _NoWords:
    """A tokenizer for which every caption is empty: keys do not depend on words."""

    context_length = 1
    vocab_size = 1
    end_token = 0
    pad_token = 0
    fingerprint = "none"

    def encode(self, strings: Sequence[str]) -> list[list[int]]:
        """One end token for each string."""
        return [[self.end_token] for _ in strings]

    def save(self, folder: Path) -> None:
        """Nothing is kept."""


def _as_the_run(command: KeysCommand, run: Path) -> tuple[KeysCommand, DataConfig]:
    """The command with the batch size and the seed of a run, and the run's data."""
    if command.shards:
        raise UserError(f"both --run {run} and shards are named; keep one of the two")
    path = run / "config.json" if run.is_dir() else run
    try:
        recorded = read_plain_json(path)
        config = from_plain(DataConfig, recorded["data"])
        batch_size, seed = int(recorded["batch_size"]), int(recorded["seed"])
    except (AttributeError, OSError, OverflowError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no configuration of a run that can be read here ({error}); name a run's folder"
        ) from error
    return replace(command, batch_size=batch_size, seed=seed), config


def _check(command: KeysCommand) -> None:
    least = {"batch_size": 1, "world_size": 1, "workers": 0, "epoch": 0, "from_step": 0, "steps": 0}
    for name, bound in {**least, "block_size": 1}.items():
        value = getattr(command, name)
        if value < bound:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {bound}")


if __name__ == "__main__":
    run_command(main)
