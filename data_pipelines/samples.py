"""One sample, ready to use: its pixels and what its captions are drawn from. Imports no torch."""

import numpy as np
from jaxtyping import UInt8

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.grouping import PICTURE_PARTS
from data_pipelines.manifest import Dataset
from data_pipelines.reader import read_sample


def decoded_sample(
    dataset: Dataset, index: int, least_size: int | None = None
) -> tuple[UInt8[np.ndarray, "H W 3"], Record]:
    """Pixels and record of sample number `index`; of several pictures the first by PICTURE_PARTS.

    With `least_size`, large JPEGs come smaller, as decode_picture does it.
    Raises BadSample with the cause when the sample cannot be used, and UserError when its shard has
    vanished or changed.
    """
    return decoded_parts(read_sample(dataset, index).parts, least_size)


def decoded_parts(
    parts: dict[str, bytes], least_size: int | None = None
) -> tuple[UInt8[np.ndarray, "H W 3"], Record]:
    """The same from the bytes of the sample's parts. Raises BadSample."""
    record = read_record(parts)
    for kind in PICTURE_PARTS:
        if kind in parts:
            return decode_picture(parts[kind], least_size=least_size), record
    raise BadSample("no picture")


def sample_name(dataset: Dataset, index: int) -> tuple[str, str]:
    """File name of the shard, and key: how messages name a sample."""
    number, row = dataset.locate(index)
    shard = dataset.shards[number]
    return shard.name, shard.key(row)
