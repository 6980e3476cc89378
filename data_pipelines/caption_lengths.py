"""How long the captions of a data set are, from some that training will read."""

from contextlib import closing

import numpy as np
from jaxtyping import Int64

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import caption_of, read_record
from data_pipelines.loader import DataConfig, sources_of
from data_pipelines.manifest import Dataset
from data_pipelines.read_ahead import samples_read_ahead
from data_pipelines.rows import row_seed
from data_pipelines.stream import Stream
from data_pipelines.tokenizers import Tokenizer

NUM_CAPTIONS = 4096
NUM_STRETCHES = 16
"""Neighbours are read together: single places all over a large data set would each shuffle a block of it."""


def caption_lengths(
    config: DataConfig,
    dataset: Dataset,
    tokenizer: Tokenizer,
    *,
    seed: int,
    number: int = NUM_CAPTIONS,
) -> Int64[np.ndarray, " N"]:
    """Lengths in tokens of at most `number` captions, spread over the first pass through the data.

    A pure function of its arguments, so equal on every rank. A sample without a caption counts as the
    end token alone, as in training.
    """
    stream = Stream(dataset, seed=seed, block_size=config.block_size)
    captions_of = [source.captions for source in sources_of(config)]
    end = dataset.num_samples if stream.length is None else min(stream.length, dataset.num_samples)
    captions: list[str] = []
    num_bad = 0
    for start, stop in _stretches(end, number):
        places = stream[start:stop]
        rows = zip(
            places.samples.tolist(), places.sources.tolist(), places.epochs.tolist(), strict=True
        )
        with closing(samples_read_ahead(dataset, places.samples.tolist(), lambda: None)) as reads:
            for (sample, source, epoch), read in zip(rows, reads, strict=True):
                try:
                    record = read_record(read().parts)
                    own_seed = row_seed(seed, epoch, sample)
                    captions.append(caption_of(record, captions_of[source], own_seed))
                except BadSample:
                    num_bad += 1
    lengths = [len(tokens) for tokens in tokenizer.encode(captions)] if captions else []
    return np.array(lengths + [1] * num_bad, dtype=np.int64)


def _stretches(end: int, number: int) -> list[tuple[int, int]]:
    """Ranges of places below `end`, at most `number` places in all; all places where there are no more."""
    if end <= number:
        return [(0, end)]
    count = min(NUM_STRETCHES, number)
    starts = [end * index // count for index in range(count)]
    return [(start, start + number // count) for start in starts]
