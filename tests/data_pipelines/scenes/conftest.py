from types import MappingProxyType

import pytest
from scene_groups import by_split

from data_pipelines.scenes.samples import SceneSource
from data_pipelines.scenes.world import World

# Of the emoji's names, in their order.
KINDS = (
    "star", "cat", "key", "heart", "tree", "car", "cloud", "note", "bone", "moon", "guitar",
    "hat", "magnet", "cup", "duck", "drum", "plane", "balloon", "pear", "chair", "hook",
)  # fmt: skip
NUM_SAMPLES = {"train": 1000, "val": 60, "test": 240, "combinations": 80, "concepts": 80}


@pytest.fixture(scope="session")
def source():
    """Training samples of all constructions; `replace` makes other ones of it."""
    return SceneSource(
        world=World(kinds=KINDS), split="train", seed=0, num_siblings=4, constructions=()
    )


@pytest.fixture(scope="session")
def samples(source):
    """The first samples of each split; their number is a multiple of four."""
    numbers = {split: range(number) for split, number in NUM_SAMPLES.items()}
    return MappingProxyType(by_split(source, numbers))
